"""Base checkpoints: trained here on a packed corpus, or fetched from a folder or the hub. Gives
base/<model>/manifest.json beside a checkpoint that Hugging Face loads.
"""

TRAINED = [n for n, m in STUDY.models.items() if m.settings.source == "pretrain"]
FETCHED = [name for name in STUDY.models if name not in TRAINED]


rule fetch:
    output:
        f"{STUDY.root}/base/{{model}}/manifest.json",
    log:
        f"{STUDY.root}/logs/base/{{model}}.log",
    benchmark:
        f"{STUDY.root}/benchmarks/base/{{model}}.tsv"
    wildcard_constraints:
        model=one_of(FETCHED),
    priority: 50
    # Where snakemake runs: compute nodes often have no way out.
    localrule: True
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        script=script("base"),
        spec=lambda wc: canonical(SPECS.base(wc.model)),
        out=parent,
    message:
        "base: fetch {wildcards.model}"
    shell:
        "python {params.script} --spec {params.spec:q} --out {params.out} > {log} 2>&1"


rule base:
    input:
        corpus=base_input,
    output:
        f"{STUDY.root}/base/{{model}}/manifest.json",
    log:
        f"{STUDY.root}/logs/base/{{model}}.log",
    benchmark:
        f"{STUDY.root}/benchmarks/base/{{model}}.tsv"
    wildcard_constraints:
        model=one_of(TRAINED),
    # All else waits for a base.
    priority: 50
    conda:
        "../../envs/conda.yaml"
    threads: cores("base")
    resources:
        gpu=gpus("base"),
        nodes=nodes("base"),
        tasks=if_several("base", None),
        tasks_per_gpu=if_several("base", 0),
        mpi=if_several("base", "srun"),
        mem_mb=megabytes("base"),
        runtime=minutes("base", base_flops),
    params:
        script=script("base"),
        spec=lambda wc: canonical(SPECS.base(wc.model)),
        out=parent,
        launcher=launcher,
        means=means("base"),
    message:
        "base: train {wildcards.model}"
    # exec: a shell would die of the SIGTERM that lets the trainer save, and the job with it.
    shell:
        "HF_HUB_OFFLINE=1 exec {params.launcher}python {params.script} --spec {params.spec:q}"
        " --corpus {input.corpus} --out {params.out} {params.means} > {log} 2>&1"
