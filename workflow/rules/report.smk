"""The report: one self-contained HTML page of figures, tables and provenance. Takes figures/ and
law/; gives report.html, by Snakemake's own reporter over the same study.
"""


def study_option(wildcards, output):
    """The study as this invocation was given it."""
    files = " ".join(f"'{path}'" for path in workflow.overwrite_configfiles)
    return f"--configfile {files}" if files else ""


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
        study=study_option,
        figures=STUDY.stage_manifest("figures"),
    message:
        "report: gather figures, tables and provenance into one page"
    shell:
        "snakemake --snakefile {workflow.main_snakefile} {params.study} --nolock --cores 1"
        " --report {output} -- figures law tables > {log} 2>&1"
