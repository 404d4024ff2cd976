"""Held-out losses, the loss table, and downstream tasks where they are asked for. Takes
checkpoints; gives evaluated/<model>/<group>/manifest.json (a group is the base, or a method's
variants with all their points) and tables/ with the pruned models (oneshot), the points of runs
(losses) and their coverage, as CSV and Parquet; downstream/<model>/<group>/scores.csv is a target
of its own. Checkpoints evaluated before are not run again.
"""


rule evaluate:
    input:
        checkpoints=evaluate_input,
        corpus=lambda wc: upstream(STUDY.corpus_manifest(family_of(wc))),
    output:
        f"{STUDY.root}/evaluated/{{model}}/{{group}}/manifest.json",
    log:
        f"{STUDY.root}/logs/evaluate/{{model}}/{{group}}.log",
    benchmark:
        f"{STUDY.root}/benchmarks/evaluate/{{model}}/{{group}}.tsv"
    # Before more training: a finished run's losses are what people wait for.
    priority: 60
    conda:
        "../../envs/conda.yaml"
    threads: cores("evaluate")
    resources:
        gpu=gpus("evaluate"),
        nodes=1,
        mem_mb=megabytes("evaluate"),
        runtime=minutes("evaluate", evaluate_flops),
    params:
        script=script("evaluate"),
        spec=lambda wc: canonical(SPECS.evaluate(wc.model, wc.group)),
        checkpoints=lambda wc, input: " ".join(
            f"--checkpoint {name}={path}"
            for name, (path, _) in SPECS.checkpoints(wc.model, wc.group).items()
        ),
        out=parent,
        launcher=launcher,
    message:
        "evaluate: {wildcards.model} {wildcards.group}"
    shell:
        "HF_HUB_OFFLINE=1 {params.launcher}python {params.script} --spec {params.spec:q}"
        " --corpus {input.corpus} {params.checkpoints} --out {params.out} > {log} 2>&1"


rule downstream_group:
    input:
        checkpoints=evaluate_input,
        corpus=lambda wc: upstream(STUDY.corpus_manifest(family_of(wc))),
    output:
        f"{STUDY.root}/downstream/{{model}}/{{group}}/manifest.json",
    log:
        f"{STUDY.root}/logs/downstream/{{model}}/{{group}}.log",
    benchmark:
        f"{STUDY.root}/benchmarks/downstream/{{model}}/{{group}}.tsv"
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
        spec=lambda wc: canonical(SPECS.downstream(wc.model, wc.group)),
        checkpoints=lambda wc, input: " ".join(
            f"--checkpoint {name}={path}"
            for name, (path, _) in SPECS.checkpoints(wc.model, wc.group).items()
        ),
        out=parent,
        launcher=launcher,
    message:
        "downstream: {wildcards.model} {wildcards.group}"
    shell:
        "{params.launcher}python {params.script} --downstream --spec {params.spec:q}"
        " --corpus {input.corpus} {params.checkpoints} --out {params.out} > {log} 2>&1"


rule downstream:
    input:
        downstream_input,


rule tables:
    input:
        [upstream(STUDY.evaluated_manifest(*pair)) for pair in SPECS.groups()],
    output:
        f"{STUDY.root}/tables/manifest.json",
    log:
        f"{STUDY.root}/logs/tables.log",
    benchmark:
        f"{STUDY.root}/benchmarks/tables.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        script=script("tables"),
        spec=lambda wc: canonical(SPECS.tables()),
        results=lambda wc, output: STUDY.root,
        out=parent,
    message:
        "tables: one row a pruned model, one row a point"
    shell:
        "python {params.script} --spec {params.spec:q}"
        " --results {params.results} --out {params.out} > {log} 2>&1"
