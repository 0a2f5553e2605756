# The report: the answer of the study on one page, and as text.


rule write_report:
    input:
        check=RESULTS.check,
        splits=RESULTS.all_splits(),
        arms=RESULTS.table("arms"),
        tables=[RESULTS.table(name) for name in ("comparisons", "patients", "scores")],
        quality=RESULTS.quality_summary(),
        figures=RESULTS.figures(),
        pseudonyms=PSEUDONYMS,
    output:
        page=report(
            RESULTS.report,
            category="Answer",
            labels={"what": "the answer of the study"},
            caption="../report/answer.rst",
        ),
        summary=RESULTS.summary,
    log:
        LOGS / "write_report.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=options(stages.ReportOptions),
        tables=subpath(input.arms, parent=True),
        version=VERSIONS["report"],
    message:
        "Writing {output.page}"
    shell:
        "stedm report --options {params.options:q} --check {input.check} --splits {input.splits}"
        " --tables {params.tables} --quality {input.quality} --figures {input.figures}"
        " --pseudonyms {input.pseudonyms} --out {output.page} > {log} 2>&1"
