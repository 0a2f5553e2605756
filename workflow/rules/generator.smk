# Generator: the diffusion model, one for each entry of `generators` and each split.


rule train_generator:
    input:
        split=RESULTS.split("{split}"),
        first_stage=needs(RESULTS.autoencoder),
        latents=needs(RESULTS.cached_latents),
        style_bank=needs(RESULTS.frozen_embeddings),
    output:
        model=directory(RESULTS.generator("{generator}", "{split}")),
    log:
        LOGS / "train_generator/{generator}-{split}.log",
    benchmark:
        BENCHMARKS / "train_generator/{generator}-{split}.tsv"
    priority: 1  # the longest: others wait for it
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=1_440,  # does not grow: a retry goes on, and partitions have limits
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
        " --processes {resources.gpu} --work {params.work} --out {output.model} > {log} 2>&1"


rule generators:
    input:
        RESULTS.all_generators(),
    localrule: True
    message:
        "Generators are in {RESULTS.root}/generators"
