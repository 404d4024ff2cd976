"""Figures. Takes tables/, and law/ where there are runs; gives every figure as PDF and PNG with its
numbers as CSV. Redrawn when a plotting function changes; can never train: --allowed-rules figures -- figures.
"""

from p2law.figures import names


rule figures:
    input:
        law=results_law,
        tables=upstream(STUDY.stage_manifest("tables")),
    output:
        f"{STUDY.root}/figures/manifest.json",
        *[
            report(
                f"{STUDY.root}/figures/{name}.png",
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": title},
            )
            for name, title in names.of(STUDY.schedules).items()
        ],
    log:
        f"{STUDY.root}/logs/figures.log",
    benchmark:
        f"{STUDY.root}/benchmarks/figures.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        script=script("figures"),
        spec=lambda wc: canonical(SPECS.figures()),
        law=lambda wc, input: f"--law {input.law}" if input.law else "",
        out=parent,
    message:
        "figures: draw from the tables and the law"
    shell:
        "python {params.script} --spec {params.spec:q}"
        " {params.law} --tables {input.tables} --out {params.out} > {log} 2>&1"
