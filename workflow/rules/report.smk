"""The report: summary/ holds the laws, held-out errors, the plan and checks as tables; report.html is
one self-contained page of these, the figures and provenance, by Snakemake's own reporter.
"""


rule summary:
    input:
        upstream(STUDY.stage_manifest("law")),
    output:
        f"{STUDY.root}/summary/manifest.json",
        report(
            f"{STUDY.root}/summary/law.html",
            caption="../report/law.rst",
            category="Laws",
            labels={"table": "Fits and constants"},
        ),
        report(
            f"{STUDY.root}/summary/holdouts.html",
            caption="../report/holdouts.rst",
            category="Laws",
            labels={"table": "Held-out errors"},
        ),
        report(
            f"{STUDY.root}/summary/plan.html",
            caption="../report/plan.rst",
            category="Plan",
            labels={"table": "What to buy"},
        ),
        report(
            f"{STUDY.root}/summary/checks.html",
            caption="../report/checks.rst",
            category="Checks",
            labels={"table": "Is the study sound?"},
        ),
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
        spec=canonical(SPECS.summary()),
        out=parent,
    message:
        "summary: the report's tables"
    shell:
        "python {params.script} --spec {params.spec:q} --law {input} --out {params.out} > {log} 2>&1"


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
