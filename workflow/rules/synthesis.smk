# Synthesis: first a plan of what to draw, then its shards, each of which can be drawn anywhere, then a manifest of both.


rule plan_images:
    input:
        split=RESULTS / "splits/{split}.csv",
    output:
        plan=RESULTS / "synthesis/{generator}/{split}/plan.csv",
    log:
        LOGS / "plan_images/{generator}-{split}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=planning,
        seed=STUDY.seed,
        patches=PATCHES,
        version=VERSIONS["synthesis"],
    message:
        "Planning the images to draw: generator {wildcards.generator}, split {wildcards.split}"
    shell:
        "stedm synthesis plan --options {params.options:q} --split {input.split} --patches {params.patches}"
        " --seed {params.seed} --out {output.plan} > {log} 2>&1"


rule draw_shard:
    input:
        plan=RESULTS / "synthesis/{generator}/{split}/plan.csv",
        generator=RESULTS / "generators/{generator}/{split}",
        style_bank=style_bank,
        judge=filtering_network,
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
        mem_mb=growing(4_000),
        runtime=growing(240),
    params:
        options=drawing,
        patches=PATCHES,
        version=VERSIONS["synthesis"],
    message:
        "Drawing images: generator {wildcards.generator}, split {wildcards.split}, shard {wildcards.shard}"
    shell:
        "stedm synthesis draw --options {params.options:q} --generator {input.generator} --plan {input.plan}"
        " --shard {wildcards.shard} --patches {params.patches} --style-bank {input.style_bank} --judge {input.judge}"
        " --out {output.shard} > {log} 2>&1"


rule write_manifest:
    input:
        plan=RESULTS / "synthesis/{generator}/{split}/plan.csv",
        shards=lambda wildcards: shards(wildcards.generator, wildcards.split),
    output:
        manifest=RESULTS / "synthesis/{generator}/{split}/manifest.csv",
    log:
        LOGS / "write_manifest/{generator}-{split}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        version=VERSIONS["synthesis"],
    message:
        "Writing down what was drawn: generator {wildcards.generator}, split {wildcards.split}"
    shell:
        "stedm synthesis manifest --plan {input.plan} --shards {input.shards} --out {output.manifest} > {log} 2>&1"


rule draw_pairs:
    input:
        plan=RESULTS / "synthesis/{generator}/{split}/plan.csv",
        generator=RESULTS / "generators/{generator}/{split}",
        style_bank=style_bank,
    output:
        plan=RESULTS / "synthesis/{generator}/{split}/grid.csv",
        images=RESULTS / "synthesis/{generator}/{split}/grid.h5",
    log:
        LOGS / "draw_pairs/{generator}-{split}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=growing(60),
    params:
        options=section(classes=STUDY.class_names, filter=None),
        patches=PATCHES,
        version=VERSIONS["synthesis"],
    message:
        "Drawing a few layouts in a few styles, each with each: generator {wildcards.generator}"
    shell:
        "(stedm synthesis grid --plan {input.plan} --out {output.plan}"
        " && stedm synthesis draw --options {params.options:q} --generator {input.generator}"
        " --plan {output.plan} --shard 0 --patches {params.patches} --style-bank {input.style_bank}"
        " --out {output.images}) > {log} 2>&1"


rule synthesis:
    input:
        expand(RESULTS / "synthesis/{generator}/{split}/manifest.csv", generator=STUDY.generators, split=SPLITS),
    localrule: True
    message:
        "Drawn images are in {RESULTS}/synthesis"
