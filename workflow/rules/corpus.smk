"""Text -> tokens. Takes a study's text source; gives corpus/<family>/manifest.json, beside it the
tokenizer, the packed training, validation and calibration rows, and what was dropped as duplicate.
"""

# From the hub: where snakemake runs, since compute nodes often have no way out.
FROM_HUB = STUDY.settings.corpus.source.kind == "hub" or any(
    family.tokenizer.kind == "hub" for family in STUDY.settings.families.values()
)


rule corpus:
    input:
        unpack(inputs("corpus")),
    output:
        pattern("corpus"),
    log:
        log_of("corpus"),
    benchmark:
        benchmark_of("corpus")
    localrule: FROM_HUB
    conda:
        "../../envs/conda.yaml"
    # The tokenizers library uses every core, and nothing else can run meanwhile.
    threads: 8
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        script=script("corpus"),
        spec=spec("corpus"),
        needs=lambda wc, output: STUDY.needs_tokens(wc.family),
        out=parent,
    message:
        "corpus: split, tokenise and pack text for {wildcards.family}"
    shell:
        "{params.script} --spec {params.spec:q}"
        " --needs-tokens {params.needs} --out {params.out:q} > {log:q} 2>&1"
