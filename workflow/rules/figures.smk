# Figures, as PNG for the report and PDF for a paper, plotted from tables and stored images: `snakemake figures` computes
# nothing again. Pictures show the first split. A rule says what a figure is plotted from and with which command; the rest
# it has from the first rule.
SPLIT = RESULTS.first_split
PSEUDONYMS = RESULTS.shown_pseudonyms()


localrules:  # which rules do not inherit
    plot_differences,
    plot_maps,
    plot_histories,
    plot_contact_sheet,
    plot_examples,
    plot_sources,
    plot_closest,
    plot_grid,


rule make_pseudonyms:
    input:
        sheet=RESULTS.sheet,
    output:
        table=RESULTS.pseudonyms,
    log:
        LOGS / "make_pseudonyms.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        version=VERSIONS["figures"],
    message:
        "Giving patients and slides the pseudonyms that figures show"
    shell:
        "stedm figures pseudonyms --sheet {input.sheet} --out {output.table} > {log} 2>&1"


rule plot_scores:
    input:
        patients=RESULTS.table("patients"),
        arms=RESULTS.table("arms"),
    output:
        **figure("scores"),
    log:
        LOGS / "figures/scores.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        command=command("scores --patients {input.patients} --arms {input.arms}"),
        version=VERSIONS["figures"],
    message:
        "Plotting {output.figure}"
    shell:
        "stedm figures {params.command} --out {output.figure} > {log} 2>&1"


use rule plot_scores as plot_differences with:
    output:
        **figure("differences"),
    log:
        LOGS / "figures/differences.log",
    params:
        command=command("differences --patients {input.patients} --arms {input.arms}"),


use rule plot_scores as plot_maps with:
    input:
        sheet=RESULTS.sheet,
        patients=RESULTS.table("patients"),
        scores=RESULTS.table("scores"),
        maps=RESULTS.all_scores(),
        fetched=fetched_files,
        pseudonyms=PSEUDONYMS,
    output:
        **figure("maps"),
    log:
        LOGS / "figures/maps.log",
    params:
        command=command(
            "maps --options {options} --sheet {input.sheet} --tables {results.root}/tables"
            " --evaluation {results.root}/evaluation --pseudonyms {input.pseudonyms}",
            stages.MapsOptions,
        ),


use rule plot_scores as plot_histories with:
    input:
        generators=RESULTS.all_generators(),
        networks=RESULTS.all_networks(),
    output:
        **figure("histories"),
    log:
        LOGS / "figures/histories.log",
    params:
        command=command(
            "histories --options {options} --generators {input.generators} --networks {input.networks}",
            stages.HistoriesOptions,
        ),


use rule plot_scores as plot_contact_sheet with:
    input:
        sheet=RESULTS.sheet,
        patches=lambda wildcards: patch_files(),
        overviews=lambda wildcards: [RESULTS.overview(slide) for slide in SLIDES],
        pseudonyms=PSEUDONYMS,
    output:
        **figure("contact_sheet"),
    log:
        LOGS / "figures/contact_sheet.log",
    params:
        command=command(
            "contact-sheet --sheet {input.sheet} --patches {results.patches} --overviews {results.overviews}"
            " --pseudonyms {input.pseudonyms}"
        ),


use rule plot_scores as plot_examples with:
    input:
        manifest=RESULTS.manifest("{source}", SPLIT),
        shards=lambda wildcards: RESULTS.shards(wildcards.source, SPLIT),
        pseudonyms=PSEUDONYMS,
    output:
        **figure("examples-{source}"),
    log:
        LOGS / "figures/examples-{source}.log",
    params:
        command=command(
            "examples --options {options} --manifest {input.manifest} --shards {input.shards}"
            " --patches {results.patches} --pseudonyms {input.pseudonyms}",
            stages.ClassesOptions,
        ),


use rule plot_scores as plot_sources with:
    input:
        manifests=RESULTS.planned_manifests(SPLIT),
        shards=RESULTS.planned_shards(SPLIT),
        pseudonyms=PSEUDONYMS,
    output:
        **figure("sources"),
    log:
        LOGS / "figures/sources.log",
    params:
        command=command(
            "sources --options {options} --manifests {input.manifests} --shards {input.shards}"
            " --patches {results.patches} --pseudonyms {input.pseudonyms}",
            stages.SourcesOptions,
        ),


use rule plot_scores as plot_closest with:
    input:
        quality=RESULTS.image_quality("{source}", SPLIT),
        shards=lambda wildcards: RESULTS.shards(wildcards.source, SPLIT),
        pseudonyms=PSEUDONYMS,
    output:
        **figure("closest-{source}"),
    log:
        LOGS / "figures/closest-{source}.log",
    params:
        command=command(
            "closest --quality {input.quality} --shards {input.shards} --patches {results.patches}"
            " --pseudonyms {input.pseudonyms}"
        ),


use rule plot_scores as plot_grid with:
    input:
        manifest=RESULTS.grid_plan("{source}", SPLIT),
        images=RESULTS.grid_images("{source}", SPLIT),
        pseudonyms=PSEUDONYMS,
    output:
        **figure("grid-{source}"),
    log:
        LOGS / "figures/grid-{source}.log",
    params:
        command=command(
            "grid --options {options} --manifest {input.manifest} --images {input.images} --patches {results.patches}"
            " --pseudonyms {input.pseudonyms}",
            stages.ClassesOptions,
        ),


rule figures:
    input:
        rules.compare_arms.output,
        RESULTS.quality_summary(),
        RESULTS.figures(),
    localrule: True
    message:
        "Tables and figures are in {RESULTS.root}"
