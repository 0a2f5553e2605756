# Segmentation: one network for each arm, split and seed.


rule train_segmentation:
    input:
        split=RESULTS.split("{split}"),
        synthetic=needs(RESULTS.synthetic_images),
    output:
        model=directory(RESULTS.network("{arm}", "{split}", "{seed}")),
    log:
        LOGS / "train_segmentation/{arm}-{split}-seed{seed}.log",
    benchmark:
        BENCHMARKS / "train_segmentation/{arm}-{split}-seed{seed}.tsv"
    priority: 1  # trainings, and the images they wait for, come before scores and figures
    conda:
        ENVIRONMENT
    threads: training_cores(stages.SegmentationOptions)
    resources:
        gpu=1,
        mem_mb=training_memory(stages.SegmentationOptions),
        runtime=training_time(stages.SegmentationOptions),
    params:
        options=options(stages.SegmentationOptions),
        patches=RESULTS.patches,
        work=RESULTS.work / "segmentation",
        version=VERSIONS["segmentation"],
    message:
        "Training the segmentation network: arm {wildcards.arm}, split {wildcards.split}, seed {wildcards.seed}"
    shell:
        "stedm segmentation train --options {params.options:q} --split {input.split} --patches {params.patches}"
        " --synthetic {input.synthetic} --processes {resources.gpu} --work {params.work} --out {output.model} > {log} 2>&1"


rule segmentation:
    input:
        RESULTS.all_networks(),
    localrule: True
    message:
        "Segmentation networks are in {RESULTS.root}/segmentation"
