"""Figures. Takes tables/, and law/ where there are runs; gives every figure as PDF and PNG with its
numbers as CSV. Redrawn when a function behind them changes; can never train:
--allowed-rules figures -- figures.
"""

from p2law.figures import names


rule figures:
    input:
        unpack(inputs("figures")),
    output:
        pattern("figures"),
        *[
            report(
                f"{STUDY.root}/figures/{name}.png",
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": title},
            )
            for name, title in names.of(STUDY.recipes).items()
        ],
    log:
        log_of("figures"),
    benchmark:
        benchmark_of("figures")
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        script=script("figures"),
        spec=spec("figures"),
        law=lambda wc, input: "".join(f"--law {quote(p)}" for p in input.get("law", [])),
        out=parent,
    message:
        "figures: draw from the tables and the law"
    shell:
        "{params.script} --spec {params.spec:q}"
        " {params.law} --tables {input.tables:q} --out {params.out:q} > {log:q} 2>&1"
