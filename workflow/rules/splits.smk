# Splits: which patient is annotated, unannotated, for validation or for the test, in each repeat.


rule make_split:
    input:
        patches=lambda wildcards: patch_files(),
        sheet=RESULTS.sheet,
        check=RESULTS.check,  # no training before all slides were found in order
    output:
        table=RESULTS.split("{split}"),
    log:
        LOGS / "make_split/{split}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=options(stages.SplitOptions),
        patches=RESULTS.patches,
        version=VERSIONS["splits"],
    message:
        "Splitting the patients: {wildcards.split}"
    shell:
        "stedm splits make --options {params.options:q} --sheet {input.sheet} --patches {params.patches}"
        " --check {input.check} --out {output.table} > {log} 2>&1"
