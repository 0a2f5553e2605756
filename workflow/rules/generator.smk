# Generator: the diffusion model, one for each entry of `generators` and each split.


rule predict_layouts:
    input:
        split=RESULTS.split("{split}"),
        network=needs(RESULTS.labeller),
    output:
        layouts=directory(RESULTS.predicted_layouts("{generator}", "{split}")),
    log:
        LOGS / "predict_layouts/{generator}-{split}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=growing(120),
    params:
        options=options(stages.PredictedLayoutsOptions),
        patches=RESULTS.patches,
        version=VERSIONS["predicted_layouts"],
    message:
        "Predicting layouts of unannotated patches: generator {wildcards.generator}, split {wildcards.split}"
    shell:
        "stedm generator predict-layouts --options {params.options:q} --network {input.network} --split {input.split}"
        " --patches {params.patches} --out {output.layouts} > {log} 2>&1"


rule train_generator:
    input:
        split=RESULTS.split("{split}"),
        first_stage=needs(RESULTS.autoencoder),
        latents=needs(RESULTS.cached_latents),
        style_bank=needs(RESULTS.frozen_embeddings),
        layouts=needs(RESULTS.unannotated_layouts),
    output:
        model=directory(RESULTS.generator("{generator}", "{split}")),
    log:
        LOGS / "train_generator/{generator}-{split}.log",
    benchmark:
        BENCHMARKS / "train_generator/{generator}-{split}.tsv"
    priority: 2  # the longest: others wait for it
    conda:
        ENVIRONMENT
    threads: training_cores(stages.GeneratorOptions)
    resources:
        gpu=1,
        mem_mb=training_memory(stages.GeneratorOptions),
        runtime=training_time(stages.GeneratorOptions),
    params:
        options=options(stages.GeneratorOptions),
        patches=RESULTS.patches,
        work=RESULTS.work / "generator",
        version=VERSIONS["generator"],
    message:
        "Training the generator {wildcards.generator}: split {wildcards.split}"
    shell:
        "stedm generator train --options {params.options:q} --split {input.split} --patches {params.patches}"
        " --first-stage {input.first_stage} --latents {input.latents} --style-bank {input.style_bank}"
        " --layouts {input.layouts} --processes {resources.gpu} --work {params.work} --out {output.model} > {log} 2>&1"


rule generators:
    input:
        RESULTS.all_generators(),
    localrule: True
    message:
        "Generators are in {RESULTS.root}/generators"
