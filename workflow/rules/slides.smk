# Slides and the sheet: drawn where the study is a demo, then opened and checked, all problems at once.


rule sample_sheet:
    output:
        sheet=RESULTS / "slides.csv",
    log:
        LOGS / "sample_sheet.log",
    localrule: True
    params:
        rows=rows,
    message:
        "Writing the sample sheet with resolved paths"
    run:
        write_sheet(Path(output.sheet), list(SLIDES.values()))


if STUDY.demo is not None:

    rule demo_slide:
        output:
            slide=demo_pattern("path"),
            annotation=demo_pattern("annotation"),
        log:
            LOGS / "demo_slide/{slide}.log",
        benchmark:
            BENCHMARKS / "demo_slide/{slide}.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        params:
            options=section("demo"),
            row=row,
            version=VERSIONS["demo"],
        message:
            "Drawing the phantom slide {wildcards.slide}"
        shell:
            "stedm demo slide --options {params.options:q} --slide {params.row:q} > {log} 2>&1"


rule check:
    input:
        sheet=RESULTS / "slides.csv",
        files=slide_files(*SLIDES),
    output:
        table=RESULTS / "check.csv",
    log:
        LOGS / "check.log",
    benchmark:
        BENCHMARKS / "check.tsv"
    priority: 2  # before patches are cut: what is wrong with a slide is said early
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=growing(2_000),
        runtime=growing(60),
    params:
        options=section("classes", "annotations", "patches", "strict"),
        rows=rows,
        version=VERSIONS["check"],
    message:
        "Opening every slide and annotation"
    shell:
        "stedm check --options {params.options:q} --sheet {input.sheet} --out {output.table} > {log} 2>&1"
