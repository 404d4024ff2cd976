"""Pruned checkpoints. Takes a base and its corpus's calibration windows; gives
pruned/<model>/<method>/manifest.json beside one checkpoint a rate. One job does all rates of a
method, since a process starts in seconds and calibration is shared; finished rates are kept.
"""


rule prune:
    input:
        unpack(prune_input),
    output:
        f"{STUDY.root}/pruned/{{model}}/{{method}}/manifest.json",
    log:
        f"{STUDY.root}/logs/prune/{{model}}/{{method}}.log",
    benchmark:
        f"{STUDY.root}/benchmarks/prune/{{model}}/{{method}}.tsv"
    priority: 40
    conda:
        "../../envs/conda.yaml"
    threads: cores("prune")
    resources:
        gpu=gpus("prune"),
        nodes=1,
        mem_mb=megabytes("prune"),
        runtime=minutes("prune", lambda wc: COSTS.prune_flops(wc.model, wc.method)),
    params:
        script=script("prune"),
        spec=lambda wc: canonical(SPECS.prune(wc.model, wc.method)),
        out=parent,
        launcher=launcher,
    message:
        "prune: {wildcards.model} by {wildcards.method}"
    shell:
        "HF_HUB_OFFLINE=1 {params.launcher}python {params.script} --spec {params.spec:q}"
        " --base {input.base} --corpus {input.corpus} --out {params.out} > {log} 2>&1"
