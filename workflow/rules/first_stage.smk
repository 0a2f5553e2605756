# First stage: the autoencoder, trained here or pretrained, and the latents that it makes of every training patch,
# once. With `first_stage.kind: none` these rules take no part.

if STUDY.first_stage.kind == "trained":

    rule train_first_stage:
        input:
            split=RESULTS.split("{split}"),
        output:
            model=directory(RESULTS.first_stage("{split}")),
        log:
            LOGS / "train_first_stage/{split}.log",
        benchmark:
            BENCHMARKS / "train_first_stage/{split}.tsv"
        conda:
            ENVIRONMENT
        threads: training_cores(stages.FirstStageOptions)
        resources:
            gpu=1,
            mem_mb=training_memory(stages.FirstStageOptions),
            runtime=training_time(stages.FirstStageOptions),
        params:
            options=options(stages.FirstStageOptions),
            patches=RESULTS.patches,
            work=RESULTS.work / "first_stage",
            version=VERSIONS["first_stage"],
        message:
            "Training the first stage: split {wildcards.split}"
        shell:
            "stedm first-stage train --options {params.options:q} --split {input.split} --patches {params.patches}"
            " --processes {resources.gpu} --work {params.work} --out {output.model} > {log} 2>&1"


if STUDY.first_stage.kind == "pretrained":

    rule prepare_first_stage:
        input:
            split=RESULTS.split("{split}"),
        output:
            model=directory(RESULTS.first_stage("{split}")),
        log:
            LOGS / "prepare_first_stage/{split}.log",
        conda:
            ENVIRONMENT
        resources:
            mem_mb=growing(4_000),
            runtime=growing(30),
        params:
            options=options(stages.PretrainedFirstStageOptions),
            patches=RESULTS.patches,
            version=VERSIONS["first_stage"],
        message:
            "Loading the pretrained first stage and scaling its latents: split {wildcards.split}"
        shell:
            "stedm first-stage prepare --options {params.options:q} --split {input.split} --patches {params.patches}"
            " --out {output.model} > {log} 2>&1"


rule encode_latents:
    input:
        split=RESULTS.split("{split}"),
        model=needs(RESULTS.autoencoder),
    output:
        latents=directory(RESULTS.latents("{split}")),
    log:
        LOGS / "encode_latents/{split}.log",
    benchmark:
        BENCHMARKS / "encode_latents/{split}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=growing(240),
    params:
        options=options(stages.LatentsOptions),
        patches=RESULTS.patches,
        version=VERSIONS["latents"],
    message:
        "Encoding patches as latents: split {wildcards.split}"
    shell:
        "stedm first-stage encode --options {params.options:q} --model {input.model} --split {input.split}"
        " --patches {params.patches} --out {output.latents} > {log} 2>&1"
