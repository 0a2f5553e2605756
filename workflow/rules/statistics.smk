# Statistics: arms compared by patient, and the quality of synthetic images, as tidy tables.


rule compare_arms:
    input:
        scores=RESULTS.all_scores(),
    output:
        scores=RESULTS.table("scores"),
        patients=RESULTS.table("patients"),
        comparisons=RESULTS.table("comparisons"),
        arms=RESULTS.table("arms"),
    log:
        LOGS / "compare_arms.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=options(stages.ComparisonOptions),
        tables=subpath(output.scores, parent=True),
        version=VERSIONS["statistics"],
    message:
        "Comparing the arms by patient"
    shell:
        "stedm statistics arms --options {params.options:q} --scores {input.scores}"
        " --out {params.tables} > {log} 2>&1"


rule summarise_quality:
    input:
        quality=RESULTS.all_image_quality(),
    output:
        table=RESULTS.table("image_quality"),
    log:
        LOGS / "summarise_quality.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=options(stages.QualitySummaryOptions),
        version=VERSIONS["statistics"],
    message:
        "Summing up the quality of synthetic images"
    shell:
        "stedm statistics images --options {params.options:q} --quality {input.quality}"
        " --out {output.table} > {log} 2>&1"
