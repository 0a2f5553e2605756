# Segmentation: one network for each arm, split and seed.


rule train_segmentation:
    input:
        split=RESULTS / "splits/{split}.csv",
        synthetic=synthetic_images,
    output:
        model=directory(RESULTS / "segmentation/{arm}/{split}/seed{seed}"),
    log:
        LOGS / "train_segmentation/{arm}-{split}-seed{seed}.log",
    benchmark:
        BENCHMARKS / "train_segmentation/{arm}-{split}-seed{seed}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=growing(480),
    params:
        options=segmentation_options,
        patches=PATCHES,
        work=WORK / "segmentation",
        version=VERSIONS["segmentation"],
    message:
        "Training the segmentation network: arm {wildcards.arm}, split {wildcards.split}, seed {wildcards.seed}"
    shell:
        "stedm segmentation train --options {params.options:q} --split {input.split} --patches {params.patches}"
        " --synthetic {input.synthetic} --seed {wildcards.seed} --processes {resources.gpu} --work {params.work} --out {output.model} > {log} 2>&1"


rule segmentation:
    input:
        expand(
            RESULTS / "segmentation/{arm}/{split}/seed{seed}",
            arm=STUDY.arms,
            split=SPLITS,
            seed=STUDY.segmentation.seeds,
        ),
    localrule: True
    message:
        "Segmentation networks are in {RESULTS}/segmentation"
