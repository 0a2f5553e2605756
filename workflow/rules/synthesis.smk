# Synthesis: first a plan of what to generate, then its shards, each of which can be generated anywhere, then a manifest
# of both.


rule plan_images:
    input:
        split=RESULTS.split("{split}"),
    output:
        plan=RESULTS.plan("{generator}", "{split}"),
    log:
        LOGS / "plan_images/{generator}-{split}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=options(stages.PlanOptions),
        patches=RESULTS.patches,
        version=VERSIONS["synthesis"],
    message:
        "Planning the images to generate: generator {wildcards.generator}, split {wildcards.split}"
    shell:
        "stedm synthesis plan --options {params.options:q} --split {input.split} --patches {params.patches}"
        " --out {output.plan} > {log} 2>&1"


rule generate_shard:
    input:
        plan=RESULTS.plan("{generator}", "{split}"),
        generator=RESULTS.generator("{generator}", "{split}"),
        style_bank=needs(RESULTS.style_embeddings),
        filter_network=needs(RESULTS.filter_network),
    output:
        shard=RESULTS.shard("{generator}", "{split}", "{shard}"),
    log:
        LOGS / "generate_shard/{generator}-{split}-{shard}.log",
    benchmark:
        BENCHMARKS / "generate_shard/{generator}-{split}-{shard}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=growing(240),
    params:
        options=options(stages.ShardOptions),
        patches=RESULTS.patches,
        version=VERSIONS["synthesis"],
    message:
        "Generating images: generator {wildcards.generator}, split {wildcards.split}, shard {wildcards.shard}"
    shell:
        "stedm synthesis generate --options {params.options:q} --generator {input.generator} --plan {input.plan}"
        " --shard {wildcards.shard} --patches {params.patches} --style-bank {input.style_bank} --filter-network {input.filter_network}"
        " --out {output.shard} > {log} 2>&1"


rule write_manifest:
    input:
        plan=RESULTS.plan("{generator}", "{split}"),
        shards=needs(RESULTS.shards),
    output:
        manifest=RESULTS.manifest("{generator}", "{split}"),
    log:
        LOGS / "write_manifest/{generator}-{split}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        version=VERSIONS["synthesis"],
    message:
        "Writing the manifest of generated images: generator {wildcards.generator}, split {wildcards.split}"
    shell:
        "stedm synthesis manifest --plan {input.plan} --shards {input.shards} --out {output.manifest} > {log} 2>&1"


rule generate_grid:
    input:
        plan=RESULTS.plan("{generator}", "{split}"),
        generator=RESULTS.generator("{generator}", "{split}"),
        style_bank=needs(RESULTS.style_embeddings),
    output:
        plan=RESULTS.grid_plan("{generator}", "{split}"),
        images=RESULTS.grid_images("{generator}", "{split}"),
    log:
        LOGS / "generate_grid/{generator}-{split}.log",
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
        "Generating a few layouts in a few styles, each with each: generator {wildcards.generator}"
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
        "Generated images are in {RESULTS.root}/synthesis"
