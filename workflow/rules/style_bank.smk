# Style bank: embeddings of patches. An encoder trained with the generator fills it after that training, a frozen one
# before, and the generator learns from it.


rule embed_styles:
    input:
        split=RESULTS.split("{split}"),
        generator=needs(RESULTS.embedding_generator),
    output:
        bank=directory(RESULTS.style_bank("{generator}", "{split}")),
    log:
        LOGS / "embed_styles/{generator}-{split}.log",
    benchmark:
        BENCHMARKS / "embed_styles/{generator}-{split}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(4_000),
        runtime=growing(120),
    params:
        options=options(stages.StyleBankOptions),
        patches=RESULTS.patches,
        version=VERSIONS["style_bank"],
    message:
        "Embedding the styles of patches: generator {wildcards.generator}, split {wildcards.split}"
    shell:
        "stedm style-bank embed --options {params.options:q} --generator {input.generator} --split {input.split}"
        " --patches {params.patches} --out {output.bank} > {log} 2>&1"
