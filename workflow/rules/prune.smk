"""Pruned checkpoints. Takes a base and its corpus's calibration windows; gives
pruned/<model>/<method>/manifest.json beside one checkpoint a rate. One job does all rates of a
method, since a process starts in seconds and calibration is shared; finished rates are kept.
"""


rule prune:
    input:
        unpack(inputs("prune")),
    output:
        pattern("prune"),
    log:
        log_of("prune"),
    benchmark:
        benchmark_of("prune")
    priority: 40
    conda:
        "../../envs/conda.yaml"
    threads: cores("prune")
    resources:
        gpu=gpus("prune"),
        nodes=1,
        mem_mb=megabytes("prune"),
        runtime=minutes("prune"),
    params:
        script=script("prune"),
        spec=spec("prune"),
        out=parent,
        launcher=launcher,
        device=STUDY.settings.hardware.device,
    message:
        "prune: {wildcards.model} by {wildcards.method}"
    shell:
        "HF_HUB_OFFLINE=1 {params.launcher}{params.script} --spec {params.spec:q}"
        " --base {input.base:q} --corpus {input.corpus:q} --device {params.device}"
        " --out {params.out:q} > {log:q} 2>&1"
