# Splits: which patient is annotated, unannotated, for validation or for the test, in each repeat.


rule make_split:
    input:
        patches=patch_files(),
        sheet=RESULTS / "slides.csv",
        check=RESULTS / "check.csv",  # no training before all slides were found in order
    output:
        table=RESULTS / "splits/{split}.csv",
    log:
        LOGS / "make_split/{split}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=split_options,
        seed=STUDY.seed,
        annotated=lambda wildcards: number(wildcards, "annotated"),
        repeat=lambda wildcards: number(wildcards, "repeat"),
        patches=PATCHES,
        strict="--strict" if STUDY.strict else "",
        version=VERSIONS["splits"],
    message:
        "Splitting the patients: {params.annotated} annotated, repeat {params.repeat}"
    shell:
        "stedm splits make --options {params.options:q} --seed {params.seed} --sheet {input.sheet}"
        " --patches {params.patches} --check {input.check} {params.strict} --annotated {params.annotated}"
        " --repeat {params.repeat} --out {output.table} > {log} 2>&1"
