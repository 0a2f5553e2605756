# Evaluation: each network on the test slides, and each generator's images.


rule score_slides:
    input:
        model=RESULTS / "segmentation/{arm}/{split}/seed{seed}",
        split=RESULTS / "splits/{split}.csv",
        sheet=RESULTS / "slides.csv",
    output:
        scores=directory(RESULTS / "evaluation/{arm}/{split}/seed{seed}"),
    log:
        LOGS / "score_slides/{arm}-{split}-seed{seed}.log",
    benchmark:
        BENCHMARKS / "score_slides/{arm}-{split}-seed{seed}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=growing(240),
    params:
        options=windows,
        version=VERSIONS["evaluation"],
    message:
        "Scoring the test slides: arm {wildcards.arm}, split {wildcards.split}, seed {wildcards.seed}"
    shell:
        "stedm evaluation score --options {params.options:q} --model {input.model} --split {input.split}"
        " --sheet {input.sheet} --out {output.scores} > {log} 2>&1"


rule judge_images:
    input:
        manifest=RESULTS / "synthesis/{generator}/{split}/manifest.csv",
        shards=lambda wildcards: shards(wildcards.generator, wildcards.split),
        split=RESULTS / "splits/{split}.csv",
        judge=judge,
    output:
        tables=directory(RESULTS / "image_quality/{generator}/{split}"),
    log:
        LOGS / "judge_images/{generator}-{split}.log",
    benchmark:
        BENCHMARKS / "judge_images/{generator}-{split}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=growing(120),
    params:
        options=judging,
        patches=PATCHES,
        seed=STUDY.seed,
        version=VERSIONS["image_quality"],
    message:
        "Judging the drawn images: generator {wildcards.generator}, split {wildcards.split}"
    shell:
        "stedm evaluation images --options {params.options:q} --manifest {input.manifest} --shards {input.shards}"
        " --split {input.split} --patches {params.patches} --judge {input.judge} --seed {params.seed}"
        " --out {output.tables} > {log} 2>&1"
