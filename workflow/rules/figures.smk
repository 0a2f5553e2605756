# Figures, as PNG for the report and PDF for a paper: drawn from the tables and from stored images, so that
# `snakemake figures` computes nothing again. Pictures show the first split.


rule draw_contact_sheet:
    input:
        sheet=RESULTS / "slides.csv",
        patches=patch_files(),
        overviews=expand(RESULTS / "overviews/{slide}.png", slide=SLIDES),
    output:
        figure=report(
            RESULTS / "figures/contact_sheet.png",
            category="Slides",
            labels={"what": "slides, tissue, patches and annotation"},
            caption="../report/contact_sheet.rst",
        ),
        pdf=RESULTS / "figures/contact_sheet.pdf",
    log:
        LOGS / "figures/contact_sheet.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        patches=PATCHES,
        overviews=RESULTS / "overviews",
        version=VERSIONS["figures"],
    message:
        "Drawing the contact sheet of all slides"
    shell:
        "stedm figures contact-sheet --sheet {input.sheet} --patches {params.patches} --overviews {params.overviews}"
        " --out {output.figure} > {log} 2>&1"


rule draw_arms_table:
    input:
        table=RESULTS / "tables/arms.csv",
    output:
        page=report(
            RESULTS / "figures/arms.html",
            category="Segmentation",
            labels={"what": "table of arms"},
            caption="../report/arms.rst",
        ),
    log:
        LOGS / "figures/arms.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        version=VERSIONS["figures"],
    message:
        "Writing the table of arms"
    shell:
        "stedm figures table --table {input.table} --out {output.page} > {log} 2>&1"


rule draw_quality_table:
    input:
        table=RESULTS / "tables/image_quality.csv",
    output:
        page=report(
            RESULTS / "figures/image_quality.html",
            category="Drawn images",
            labels={"what": "table of image quality"},
            caption="../report/image_quality.rst",
        ),
    log:
        LOGS / "figures/image_quality.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        version=VERSIONS["figures"],
    message:
        "Writing the table of image quality"
    shell:
        "stedm figures table --table {input.table} --out {output.page} > {log} 2>&1"


rule draw_scores:
    input:
        patients=RESULTS / "tables/patients.csv",
        arms=RESULTS / "tables/arms.csv",
    output:
        figure=report(
            RESULTS / "figures/scores.png",
            category="Segmentation",
            labels={"what": "each patient's score by arm"},
            caption="../report/scores.rst",
        ),
        pdf=RESULTS / "figures/scores.pdf",
    log:
        LOGS / "figures/scores.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        version=VERSIONS["figures"],
    message:
        "Drawing the figure of scores by patient"
    shell:
        "stedm figures scores --patients {input.patients} --arms {input.arms} --out {output.figure} > {log} 2>&1"


rule draw_differences:
    input:
        patients=RESULTS / "tables/patients.csv",
        arms=RESULTS / "tables/arms.csv",
    output:
        figure=report(
            RESULTS / "figures/differences.png",
            category="Segmentation",
            labels={"what": "differences to the reference arm"},
            caption="../report/differences.rst",
        ),
        pdf=RESULTS / "figures/differences.pdf",
    log:
        LOGS / "figures/differences.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        version=VERSIONS["figures"],
    message:
        "Drawing the figure of differences to the reference arm"
    shell:
        "stedm figures differences --patients {input.patients} --arms {input.arms} --out {output.figure} > {log} 2>&1"


rule draw_maps:
    input:
        sheet=RESULTS / "slides.csv",
        patients=RESULTS / "tables/patients.csv",
        scores=RESULTS / "tables/scores.csv",
        maps=evaluations(),
    output:
        figure=report(
            RESULTS / "figures/maps.png",
            category="Segmentation",
            labels={"what": "test slides and what networks make of them"},
            caption="../report/maps.rst",
        ),
        pdf=RESULTS / "figures/maps.pdf",
    log:
        LOGS / "figures/maps.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=section("evaluation", "arms", "classes", "annotations", "patches"),
        tables=subpath(input.scores, parent=True),
        evaluation=RESULTS / "evaluation",
        version=VERSIONS["figures"],
    message:
        "Drawing the figure of test slides"
    shell:
        "stedm figures maps --options {params.options:q} --sheet {input.sheet} --tables {params.tables}"
        " --evaluation {params.evaluation} --out {output.figure} > {log} 2>&1"


rule draw_examples:
    input:
        manifest=RESULTS / f"synthesis/{{generator}}/{SPLITS[0]}/manifest.csv",
        shards=lambda wildcards: shards(wildcards.generator, SPLITS[0]),
    output:
        figure=report(
            RESULTS / "figures/examples-{generator}.png",
            category="Drawn images",
            labels={"what": "drawn images and what they were made of", "generator": "{generator}"},
            caption="../report/examples.rst",
        ),
        pdf=RESULTS / "figures/examples-{generator}.pdf",
    log:
        LOGS / "figures/examples-{generator}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=section("classes"),
        patches=PATCHES,
        version=VERSIONS["figures"],
    message:
        "Drawing the figure of examples: generator {wildcards.generator}"
    shell:
        "stedm figures examples --options {params.options:q} --manifest {input.manifest} --shards {input.shards}"
        " --patches {params.patches} --out {output.figure} > {log} 2>&1"


rule draw_closest:
    input:
        quality=RESULTS / f"image_quality/{{generator}}/{SPLITS[0]}",
        shards=lambda wildcards: shards(wildcards.generator, SPLITS[0]),
    output:
        figure=report(
            RESULTS / "figures/closest-{generator}.png",
            category="Drawn images",
            labels={"what": "drawn images and the training patches closest to them", "generator": "{generator}"},
            caption="../report/closest.rst",
        ),
        pdf=RESULTS / "figures/closest-{generator}.pdf",
    log:
        LOGS / "figures/closest-{generator}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        patches=PATCHES,
        version=VERSIONS["figures"],
    message:
        "Drawing the figure of closest training patches: generator {wildcards.generator}"
    shell:
        "stedm figures closest --quality {input.quality} --shards {input.shards} --patches {params.patches}"
        " --out {output.figure} > {log} 2>&1"


rule draw_grid:
    input:
        manifest=RESULTS / f"synthesis/{{generator}}/{SPLITS[0]}/grid.csv",
        images=RESULTS / f"synthesis/{{generator}}/{SPLITS[0]}/grid.h5",
    output:
        figure=report(
            RESULTS / "figures/grid-{generator}.png",
            category="Drawn images",
            labels={"what": "grid of layouts and styles", "generator": "{generator}"},
            caption="../report/grid.rst",
        ),
        pdf=RESULTS / "figures/grid-{generator}.pdf",
    log:
        LOGS / "figures/grid-{generator}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=section("classes"),
        patches=PATCHES,
        version=VERSIONS["figures"],
    message:
        "Drawing the grid of layouts and styles: generator {wildcards.generator}"
    shell:
        "stedm figures grid --options {params.options:q} --manifest {input.manifest} --images {input.images}"
        " --patches {params.patches} --out {output.figure} > {log} 2>&1"


rule draw_histories:
    input:
        generators=rules.generators.input,
        segmentation=rules.segmentation.input,
    output:
        figure=report(
            RESULTS / "figures/histories.png",
            category="Training",
            labels={"what": "loss of each training"},
            caption="../report/histories.rst",
        ),
        pdf=RESULTS / "figures/histories.pdf",
    log:
        LOGS / "figures/histories.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=runs,
        results=RESULTS,
        version=VERSIONS["figures"],
    message:
        "Drawing the figure of training curves"
    shell:
        "stedm figures histories --options {params.options:q} --results {params.results} --out {output.figure}"
        " > {log} 2>&1"


rule figures:
    input:
        rules.draw_contact_sheet.output,
        rules.compare_arms.output,
        rules.draw_arms_table.output,
        rules.draw_scores.output,
        rules.draw_differences.output,
        rules.draw_maps.output,
        rules.draw_histories.output,
        generator_figures(),
    localrule: True
    message:
        "Tables and figures are in {RESULTS}"
