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
        law=results_law,
        tables=upstream(STUDY.stage_manifest("tables")),
    output:
        f"{STUDY.root}/summary/manifest.json",
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
        f"{STUDY.root}/logs/summary.log",
    benchmark:
        f"{STUDY.root}/benchmarks/summary.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        script=script("summary"),
        spec=lambda wc: canonical(SPECS.summary()),
        law=lambda wc, input: f"--law {input.law}" if input.law else "",
        out=parent,
    message:
        "summary: the report's tables"
    shell:
        "python {params.script} --spec {params.spec:q}"
        " {params.law} --tables {input.tables} --out {params.out} > {log} 2>&1"


rule report:
    input:
        upstream(STUDY.stage_manifest("figures")),
        upstream(STUDY.stage_manifest("summary")),
    output:
        f"{STUDY.root}/report.html",
    log:
        f"{STUDY.root}/logs/report.log",
    benchmark:
        f"{STUDY.root}/benchmarks/report.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        study=same_study,
    message:
        "report: gather figures, tables and provenance into one page"
    shell:
        "snakemake {params.study} --nolock --cores 1"
        " --report {output} -- figures summary > {log} 2>&1"
