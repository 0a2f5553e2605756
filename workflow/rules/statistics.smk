# Statistics: arms compared by patient, and the quality of drawn images, as tidy tables.


rule compare_arms:
    input:
        scores=evaluations(),
    output:
        scores=RESULTS / "tables/scores.csv",
        patients=RESULTS / "tables/patients.csv",
        comparisons=RESULTS / "tables/comparisons.csv",
        arms=report(
            RESULTS / "tables/arms.csv",
            category="Segmentation",
            labels={"what": "table of arms, as a file"},
            caption="../report/arms.rst",
        ),
    log:
        LOGS / "compare_arms.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=comparison,
        evaluation=RESULTS / "evaluation",
        seed=STUDY.seed,
        tables=subpath(output.scores, parent=True),
        version=VERSIONS["statistics"],
    message:
        "Comparing the arms by patient"
    shell:
        "stedm statistics arms --options {params.options:q} --evaluation {params.evaluation} --seed {params.seed}"
        " --out {params.tables} > {log} 2>&1"


rule compare_generators:
    input:
        quality=expand(RESULTS / "image_quality/{generator}/{split}", generator=STUDY.generators, split=SPLITS),
    output:
        table=report(
            RESULTS / "tables/image_quality.csv",
            category="Drawn images",
            labels={"what": "table of image quality, as a file"},
            caption="../report/image_quality.rst",
        ),
    log:
        LOGS / "compare_generators.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=section("evaluation", generators=list(STUDY.generators), splits=SPLITS),
        quality=RESULTS / "image_quality",
        seed=STUDY.seed,
        version=VERSIONS["statistics"],
    message:
        "Summing up the quality of drawn images"
    shell:
        "stedm statistics images --options {params.options:q} --quality {params.quality} --seed {params.seed}"
        " --out {output.table} > {log} 2>&1"
