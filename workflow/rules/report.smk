"""The report: one self-contained HTML page of figures, tables and provenance. Takes figures/ and
law/; gives report.html, by Snakemake's own reporter over the same study.
"""


rule report:
    input:
        upstream(STUDY.stage_manifest("figures")),
        upstream(STUDY.stage_manifest("law")),
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
        " --report {output} -- figures law tables > {log} 2>&1"
