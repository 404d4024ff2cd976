"""Text -> tokens. Takes a study's text source; gives corpus/<family>/manifest.json, beside it the
tokenizer, the packed training, validation and calibration rows, and what was dropped as duplicate.
"""

# From the hub: where snakemake runs, since compute nodes often have no way out.
FROM_HUB = STUDY.settings.corpus.source.kind == "hub" or any(
    family.tokenizer.kind == "hub" for family in STUDY.settings.families.values()
)


rule corpus:
    output:
        f"{STUDY.root}/corpus/{{family}}/manifest.json",
    log:
        f"{STUDY.root}/logs/corpus/{{family}}.log",
    benchmark:
        f"{STUDY.root}/benchmarks/corpus/{{family}}.tsv"
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
        spec=lambda wc: canonical(SPECS.corpus(wc.family)),
        needs=lambda wc, output: STUDY.needs_tokens(wc.family),
        out=parent,
    message:
        "corpus: split, tokenise and pack text for {wildcards.family}"
    shell:
        "python {params.script} --spec {params.spec:q}"
        " --needs-tokens {params.needs} --out {params.out} > {log} 2>&1"
