# Evaluation: each network on the test slides, and each source's images.


rule score_slides:
    input:
        model=needs(RESULTS.applied_network),
        split=RESULTS.split("{split}"),
        sheet=RESULTS.sheet,
        fetched=fetched_files,
    output:
        scores=directory(RESULTS.scores("{arm}", "{split}", "{seed}")),
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
        options=options(stages.ScoreOptions),
        content=content_of(*SLIDES),  # slides are scored beyond their patches too
        version=VERSIONS["evaluation"],
    message:
        "Scoring the test slides: arm {wildcards.arm}, split {wildcards.split}, seed {wildcards.seed}"
    shell:
        "stedm evaluation score --options {params.options:q} --model {input.model} --split {input.split}"
        " --sheet {input.sheet} --out {output.scores} > {log} 2>&1"


rule evaluate_images:
    input:
        manifest=RESULTS.manifest("{source}", "{split}"),
        shards=needs(RESULTS.shards),
        split=RESULTS.split("{split}"),
        evaluator=needs(RESULTS.evaluator),
        structure_network=needs(RESULTS.structure_network),
    output:
        tables=directory(RESULTS.image_quality("{source}", "{split}")),
    log:
        LOGS / "evaluate_images/{source}-{split}.log",
    benchmark:
        BENCHMARKS / "evaluate_images/{source}-{split}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=growing(120),
    params:
        options=options(stages.ImageEvaluationOptions),
        patches=RESULTS.patches,
        version=VERSIONS["image_quality"],
    message:
        "Evaluating the synthetic images: source {wildcards.source}, split {wildcards.split}"
    shell:
        "stedm evaluation images --options {params.options:q} --manifest {input.manifest} --shards {input.shards}"
        " --split {input.split} --patches {params.patches} --evaluator {input.evaluator}"
        " --structure-network {input.structure_network} --out {output.tables} > {log} 2>&1"
