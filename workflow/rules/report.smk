"""The report: summary/ holds the pruned models, the laws, held-out errors, the plan and checks as
tables; report.html is one self-contained page of these, the figures and provenance, by Snakemake's
own reporter.
"""

# Page of summary/ -> its category and label in the report; those of laws only where there are runs.
PAGES = {"oneshot": ("Pruning", "Losses right after pruning")}
if STUDY.runs:
    PAGES |= {
        "law": ("Laws", "Fits and constants"),
        "holdouts": ("Laws", "Held-out errors"),
        "plan": ("Plan", "What to buy"),
    }
PAGES |= {"checks": ("Checks", "Is the study sound?")}


rule summary:
    input:
        unpack(inputs("summary")),
    output:
        pattern("summary"),
        *[
            report(
                f"{STUDY.root}/summary/{name}.html",
                caption=f"../report/{name}.rst",
                category=category,
                labels={"table": label},
            )
            for name, (category, label) in PAGES.items()
        ],
    log:
        log_of("summary"),
    benchmark:
        benchmark_of("summary")
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        script=script("summary"),
        spec=spec("summary"),
        law=lambda wc, input: "".join(f"--law {quote(p)}" for p in input.get("law", [])),
        out=parent,
    message:
        "summary: the report's tables"
    shell:
        "{params.script} --spec {params.spec:q}"
        " {params.law} --tables {input.tables:q} --out {params.out:q} > {log:q} 2>&1"


rule report:
    input:
        unpack(inputs("report")),
    output:
        pattern("report"),
        f"{STUDY.root}/report.html",
    log:
        log_of("report"),
    benchmark:
        benchmark_of("report")
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        script=script("report"),
        spec=spec("report"),
        snakefile=lambda wc, output: workflow.main_snakefile,
        out=parent,
    message:
        "report: gather figures, tables and provenance into one page"
    shell:
        "{params.script} --spec {params.spec:q} --snakefile {params.snakefile:q}"
        " --figures {input.figures:q} --summary {input.summary:q} --out {params.out:q}"
        " > {log:q} 2>&1"
