# Patches: one file for each slide, and a picture of where they lie.


rule extract_patches:
    input:
        files=lambda wildcards: slide_files(wildcards.slide),
        sheet=ancient(RESULTS / "slides.csv"),
        check=ancient(RESULTS / "check.csv"),
    output:
        patches=RESULTS / "patches/{slide}.h5",
        overview=RESULTS / "overviews/{slide}.png",
    log:
        LOGS / "extract_patches/{slide}.log",
    benchmark:
        BENCHMARKS / "extract_patches/{slide}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=megabytes(4_000),
        runtime=60,
    params:
        options=section("classes", "annotations", "patches"),
        row=row,
        version=VERSIONS["patches"],
    message:
        "Cutting patches from {wildcards.slide}"
    shell:
        "stedm patches extract --options {params.options:q} --sheet {input.sheet} --slide {wildcards.slide}"
        " --check {input.check} --out {output.patches} --overview {output.overview} > {log} 2>&1"


rule patches:
    input:
        patch_files(),
    localrule: True
