"""Base checkpoints. Takes a packed corpus (and a folder or a hub name); gives
base/<model>/manifest.json beside a checkpoint that Hugging Face loads.
"""


rule base:
    input:
        base_input,
    output:
        f"{STUDY.root}/base/{{model}}/manifest.json",
    log:
        f"{STUDY.root}/logs/base/{{model}}.log",
    benchmark:
        f"{STUDY.root}/benchmarks/base/{{model}}.tsv"
    # The largest first, so that no core waits at the end.
    priority: 50
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        gpu=lambda wc: COSTS.gpus(wc.model, trained=True),
        mem_mb=megabytes(lambda wc: COSTS.base_memory(wc.model)),
        runtime=minutes(base_flops),
    params:
        script=script("base"),
        spec=lambda wc: canonical(SPECS.base(wc.model)),
        corpus=lambda wc, input: f"--corpus {input[0]}" if input else "",
        out=parent,
    message:
        "base: train or fetch {wildcards.model}"
    shell:
        "python {params.script} --spec {params.spec:q}"
        " {params.corpus} --out {params.out} > {log} 2>&1"
