# Patches: one file for each slide, and a picture of where they lie.


# Does not wait for `check`, which comes first by its priority but may fail while slides are cut: as an input its table
# would have every slide cut again after a change of one row. Nor can it be `ancient()`: behind such an input Snakemake
# 9.27 does not look for work where the rule that makes it must run again.
rule extract_patches:
    input:
        files=lambda wildcards: slide_inputs(wildcards.slide),
    output:
        patches=RESULTS.patch_file("{slide}"),
        overview=RESULTS.overview("{slide}"),
    log:
        LOGS / "extract_patches/{slide}.log",
    benchmark:
        BENCHMARKS / "extract_patches/{slide}.tsv"
    conda:
        ENVIRONMENT
    threads: lambda wildcards: threads_for(wildcards.slide)
    resources:
        mem_mb=growing(1_000),
        runtime=growing(60),
    params:
        options=options(stages.PatchesOptions),
        row=row,
        content=lambda wildcards: content_of(wildcards.slide),
        version=VERSIONS["patches"],
    message:
        "Cutting patches from {wildcards.slide}"
    shell:
        "stedm patches extract --options {params.options:q} --slide {params.row:q}"
        " --out {output.patches} --overview {output.overview} --threads {threads} > {log} 2>&1"


rule patches:
    input:
        rules.check.output,
        lambda wildcards: patch_files(),
        RESULTS.figure("contact_sheet"),
    localrule: True
    message:
        "Patches are in {RESULTS.patches}"
