"""Held-out losses, the loss table, and downstream tasks where they are asked for. Takes
checkpoints; gives evaluated/<model>/<group>/manifest.json (a group is the base, its control, or a
method's variants with all their points) and tables/ with the pruned models (oneshot), the points of
runs (losses), those of controls and their coverage, as CSV and Parquet;
downstream/<model>/<group>/scores.csv is a target of its own. Checkpoints evaluated before are not
run again.
"""


rule evaluate:
    input:
        unpack(inputs("evaluate")),
    output:
        pattern("evaluate"),
    log:
        log_of("evaluate"),
    benchmark:
        benchmark_of("evaluate")
    # Before more training: a finished run's losses are what people wait for.
    priority: 60
    conda:
        "../../envs/conda.yaml"
    threads: cores("evaluate")
    resources:
        gpu=gpus("evaluate"),
        nodes=1,
        mem_mb=megabytes("evaluate"),
        runtime=minutes("evaluate"),
    params:
        script=script("evaluate"),
        spec=spec("evaluate"),
        checkpoints=checkpoints("evaluate"),
        out=parent,
        launcher=launcher,
        device=STUDY.settings.hardware.device,
    message:
        "evaluate: {wildcards.model} {wildcards.group}"
    shell:
        "HF_HUB_OFFLINE=1 {params.launcher}{params.script} --spec {params.spec:q}"
        " --corpus {input.corpus:q} {params.checkpoints} --device {params.device}"
        " --out {params.out:q} > {log:q} 2>&1"


rule downstream_group:
    input:
        unpack(inputs("downstream")),
    output:
        pattern("downstream"),
    log:
        log_of("downstream"),
    benchmark:
        benchmark_of("downstream")
    conda:
        "../../envs/conda.yaml"
    threads: cores("evaluate")
    resources:
        gpu=gpus("evaluate"),
        nodes=1,
        mem_mb=megabytes("evaluate"),
        # Tasks differ too much for an estimate; each retry doubles it.
        runtime=lambda wc, attempt: 240 * 2 ** (attempt - 1),
    params:
        script=script("evaluate"),
        spec=spec("downstream"),
        checkpoints=checkpoints("downstream"),
        out=parent,
        launcher=launcher,
        device=STUDY.settings.hardware.device,
    message:
        "downstream: {wildcards.model} {wildcards.group}"
    shell:
        "{params.launcher}{params.script} --downstream --spec {params.spec:q}"
        " --corpus {input.corpus:q} {params.checkpoints} --device {params.device}"
        " --out {params.out:q} > {log:q} 2>&1"


rule downstream:
    input:
        downstream_targets,


rule tables:
    input:
        unpack(inputs("tables")),
    output:
        pattern("tables"),
    log:
        log_of("tables"),
    benchmark:
        benchmark_of("tables")
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        script=script("tables"),
        spec=spec("tables"),
        results=lambda wc, output: STUDY.root,
        out=parent,
    message:
        "tables: one row a pruned model, one row a point"
    shell:
        "{params.script} --spec {params.spec:q}"
        " --results {params.results:q} --out {params.out:q} > {log:q} 2>&1"
