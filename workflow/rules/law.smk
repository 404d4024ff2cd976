"""Fitted laws. Takes tables/; gives law/ with constants and their intervals, the comparison of
forms, hold-out predictions and the plan's ingredients as JSON and CSV.
"""


rule law:
    input:
        upstream(STUDY.stage_manifest("tables")),
    output:
        f"{STUDY.root}/law/manifest.json",
    log:
        f"{STUDY.root}/logs/law.log",
    benchmark:
        f"{STUDY.root}/benchmarks/law.tsv"
    conda:
        "../../envs/conda.yaml"
    # Hundreds of small independent fits: processes of one thread each.
    threads: 8
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        script=script("fit"),
        spec=lambda wc: canonical(SPECS.law()),
        table=lambda wc, input: Path(input[0]).parent / "losses.parquet",
        out=parent,
    message:
        "law: fit the laws to the loss table"
    shell:
        "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"
        " python {params.script} {params.table} --spec {params.spec:q} --processes {threads}"
        " --out {params.out} > {log} 2>&1"
