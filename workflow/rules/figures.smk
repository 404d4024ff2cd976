"""Figures. Takes law/ and tables/; gives every figure as PDF and PNG with its numbers as CSV.
Redrawn when a plotting function changes; can never train: --allowed-rules figures -- figures.
"""

from p2law.figures.names import FIGURES


rule figures:
    input:
        law=upstream(STUDY.stage_manifest("law")),
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
            for name, title in FIGURES.items()
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
        out=parent,
    message:
        "figures: draw from the tables and the law"
    shell:
        "python {params.script} --spec {params.spec:q}"
        " --law {input.law} --tables {input.tables} --out {params.out} > {log} 2>&1"
