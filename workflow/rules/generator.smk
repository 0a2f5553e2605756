# Generator: the diffusion model, one for each entry of `generators` and each split.


rule train_generator:
    input:
        split=RESULTS / "splits/{split}.csv",
        first_stage=first_stage("first_stage"),
        latents=first_stage("latents"),
        style_bank=style_bank_before_training,
    output:
        model=directory(RESULTS / "generators/{generator}/{split}"),
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
        runtime=growing(1_440),
    params:
        options=generator_options,
        seed=STUDY.seed,
        patches=PATCHES,
        work=WORK / "generator",
        version=VERSIONS["generator"],
    message:
        "Training the generator {wildcards.generator}: split {wildcards.split}"
    shell:
        "stedm generator train --options {params.options:q} --split {input.split} --patches {params.patches}"
        " --first-stage {input.first_stage} --latents {input.latents} --style-bank {input.style_bank}"
        " --seed {params.seed} --processes {resources.gpu} --work {params.work} --out {output.model} > {log} 2>&1"


rule generators:
    input:
        expand(RESULTS / "generators/{generator}/{split}", generator=STUDY.generators, split=SPLITS),
    localrule: True
    message:
        "Generators are in {RESULTS}/generators"
