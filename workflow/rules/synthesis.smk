# Synthesis: for each source (a generator, recolouring, pseudo-labels) first a plan of the images, then its shards, each of
# which can be made anywhere, then a manifest of both.


rule plan_images:
    input:
        split=RESULTS.split("{split}"),
    output:
        plan=RESULTS.plan("{source}", "{split}"),
    log:
        LOGS / "plan_images/{source}-{split}.log",
    priority: 1
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=options(stages.PlanOptions),
        patches=RESULTS.patches,
        version=VERSIONS["synthesis"],
    message:
        "Planning the images to make: source {wildcards.source}, split {wildcards.split}"
    shell:
        "stedm synthesis plan --options {params.options:q} --split {input.split} --patches {params.patches}"
        " --out {output.plan} > {log} 2>&1"


rule generate_shard:
    input:
        plan=RESULTS.plan("{source}", "{split}"),
        generator=needs(RESULTS.generator_of),
        style_bank=needs(RESULTS.style_bank_of),
        network=needs(RESULTS.network_of),
    output:
        shard=RESULTS.shard("{source}", "{split}", "{shard}"),
    log:
        LOGS / "generate_shard/{source}-{split}-{shard}.log",
    benchmark:
        BENCHMARKS / "generate_shard/{source}-{split}-{shard}.tsv"
    priority: 1
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=shard_time,
    params:
        options=options(stages.ShardOptions),
        patches=RESULTS.patches,
        version=VERSIONS["synthesis"],
    message:
        "Making images: source {wildcards.source}, split {wildcards.split}, shard {wildcards.shard}"
    shell:
        "stedm synthesis generate --options {params.options:q} --plan {input.plan} --shard {wildcards.shard}"
        " --patches {params.patches} --generator {input.generator} --style-bank {input.style_bank}"
        " --network {input.network} --out {output.shard} > {log} 2>&1"


rule write_manifest:
    input:
        plan=RESULTS.plan("{source}", "{split}"),
        shards=needs(RESULTS.shards),
    output:
        manifest=RESULTS.manifest("{source}", "{split}"),
    log:
        LOGS / "write_manifest/{source}-{split}.log",
    priority: 1
    localrule: True
    conda:
        ENVIRONMENT
    params:
        version=VERSIONS["synthesis"],
    message:
        "Writing the manifest of generated images: source {wildcards.source}, split {wildcards.split}"
    shell:
        "stedm synthesis manifest --plan {input.plan} --shards {input.shards} --out {output.manifest} > {log} 2>&1"


rule generate_grid:
    input:
        plan=RESULTS.plan("{source}", "{split}"),
        generator=needs(RESULTS.generator_of),
        style_bank=needs(RESULTS.style_bank_of),
    output:
        plan=RESULTS.grid_plan("{source}", "{split}"),
        images=RESULTS.grid_images("{source}", "{split}"),
    log:
        LOGS / "generate_grid/{source}-{split}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=growing(60),
    params:
        options=options(stages.GridOptions),
        patches=RESULTS.patches,
        version=VERSIONS["synthesis"],
    message:
        "Generating a few layouts in a few styles, each with each: generator {wildcards.source}"
    shell:
        "(stedm synthesis grid --plan {input.plan} --out {output.plan}"
        " && stedm synthesis generate --options {params.options:q} --generator {input.generator}"
        " --plan {output.plan} --shard 0 --patches {params.patches} --style-bank {input.style_bank}"
        " --out {output.images}) > {log} 2>&1"


rule synthesis:
    input:
        RESULTS.all_manifests(),
    localrule: True
    message:
        "Synthetic images are in {RESULTS.root}/synthesis"
