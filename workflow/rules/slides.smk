# Slides and the sheet: phantoms are rendered, then all slides are opened and checked, all problems at once.


rule sample_sheet:
    output:
        sheet=RESULTS.sheet,
    log:
        LOGS / "sample_sheet.log",
    priority: 3  # as `check`, which waits for it
    localrule: True
    params:
        rows=rows,
    message:
        "Writing the sample sheet with resolved paths"
    run:
        write_sheet(Path(output.sheet), list(SLIDES.values()))


if PHANTOMS:

    rule render_phantom:
        output:
            slide=PHANTOMS["path"],
            annotation=PHANTOMS["annotation"],
        log:
            LOGS / "render_phantom/{slide}.log",
        benchmark:
            BENCHMARKS / "render_phantom/{slide}.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        params:
            options=options(stages.PhantomOptions),
            row=row,
            version=VERSIONS["phantoms"],
        message:
            "Rendering the phantom slide {wildcards.slide}"
        shell:
            "stedm phantom render --options {params.options:q} --slide {params.row:q} > {log} 2>&1"


rule check:
    input:
        sheet=RESULTS.sheet,
        files=lambda wildcards: slide_inputs(*SLIDES),
    output:
        table=RESULTS.check,
    log:
        messages=LOGS / "check.log",
        table=LOGS / "check.csv",  # where it is kept that Snakemake deletes as the output of a failed job
    benchmark:
        BENCHMARKS / "check.tsv"
    priority: 3  # before patches are cut: what is wrong with a slide is said early
    conda:
        ENVIRONMENT
    threads: 1  # in more, where a profile gives them: a job of several waits until all of them are free at once
    resources:
        mem_mb=growing(2_000),
        runtime=growing(60),
    params:
        options=options(stages.CheckOptions),
        rows=rows,
        content=content_of(*SLIDES),
        version=VERSIONS["check"],
    message:
        "Opening every slide and annotation"
    shell:
        "stedm check --options {params.options:q} --sheet {input.sheet} --out {output.table} > {log.messages} 2>&1"
        " || {{ status=$?; cp {output.table} {log.table}; exit $status; }}"
