"""Fitted laws. Takes tables/; gives law/ with constants and their intervals, the comparison of
forms, hold-out predictions and the plan's ingredients as JSON and CSV.
"""


rule law:
    input:
        unpack(inputs("law")),
    output:
        pattern("law"),
    log:
        log_of("law"),
    benchmark:
        benchmark_of("law")
    conda:
        "../../envs/conda.yaml"
    # Hundreds of small independent fits: processes of one thread each.
    threads: 8
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        script=script("fit"),
        spec=spec("law"),
        table=lambda wc, input: Path(input.tables[0]).parent / "losses.parquet",
        out=parent,
    message:
        "law: fit the laws to the loss table"
    shell:
        "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"
        " {params.script} {params.table:q} --spec {params.spec:q} --processes {threads}"
        " --out {params.out:q} > {log:q} 2>&1"
