# Synthesis: first a manifest of what to draw, then its shards, each of which can be drawn anywhere.


rule plan_images:
    input:
        split=RESULTS / "splits/{split}.csv",
    output:
        manifest=RESULTS / "synthesis/{generator}/{split}/manifest.csv",
    log:
        LOGS / "plan_images/{generator}-{split}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=section("synthesis"),
        seed=STUDY.seed,
        patches=PATCHES,
        version=VERSIONS["synthesis"],
    message:
        "Planning the images to draw: generator {wildcards.generator}, split {wildcards.split}"
    shell:
        "stedm synthesis plan --options {params.options:q} --split {input.split} --patches {params.patches}"
        " --seed {params.seed} --out {output.manifest} > {log} 2>&1"


rule draw_shard:
    input:
        manifest=RESULTS / "synthesis/{generator}/{split}/manifest.csv",
        generator=RESULTS / "generators/{generator}/{split}",
        style_bank=style_bank,
    output:
        shard=RESULTS / "synthesis/{generator}/{split}/shards/{shard}.h5",
    log:
        LOGS / "draw_shard/{generator}-{split}-{shard}.log",
    benchmark:
        BENCHMARKS / "draw_shard/{generator}-{split}-{shard}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4_000),
        runtime=240,
    params:
        options=section(classes=STUDY.class_names),
        patches=PATCHES,
        version=VERSIONS["synthesis"],
    message:
        "Drawing images: generator {wildcards.generator}, split {wildcards.split}, shard {wildcards.shard}"
    shell:
        "stedm synthesis draw --options {params.options:q} --generator {input.generator} --manifest {input.manifest}"
        " --shard {wildcards.shard} --patches {params.patches} --style-bank {input.style_bank} --out {output.shard}"
        " > {log} 2>&1"


rule draw_pairs:
    input:
        manifest=RESULTS / "synthesis/{generator}/{split}/manifest.csv",
        generator=RESULTS / "generators/{generator}/{split}",
        style_bank=style_bank,
    output:
        manifest=RESULTS / "synthesis/{generator}/{split}/grid.csv",
        images=RESULTS / "synthesis/{generator}/{split}/grid.h5",
    log:
        LOGS / "draw_pairs/{generator}-{split}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4_000),
        runtime=60,
    params:
        options=section(classes=STUDY.class_names),
        patches=PATCHES,
        version=VERSIONS["synthesis"],
    message:
        "Drawing a few layouts in a few styles, each with each: generator {wildcards.generator}"
    shell:
        "(stedm synthesis grid --manifest {input.manifest} --out {output.manifest}"
        " && stedm synthesis draw --options {params.options:q} --generator {input.generator}"
        " --manifest {output.manifest} --shard 0 --patches {params.patches} --style-bank {input.style_bank}"
        " --out {output.images}) > {log} 2>&1"


rule synthesis:
    input:
        [shards(generator, split) for generator in STUDY.generators for split in SPLITS],
    localrule: True
    message:
        "Drawn images are in {RESULTS}/synthesis"
