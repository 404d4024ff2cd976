"""Base checkpoints: trained here on a packed corpus, or fetched from a folder or the hub. Gives
base/<model>/manifest.json beside a checkpoint that Hugging Face loads.
"""

TRAINED = [name for name in STUDY.models if STAGES["base"].trained(name)]
FETCHED = [name for name in STUDY.models if name not in TRAINED]


rule fetch:
    input:
        unpack(inputs("base")),
    output:
        pattern("base"),
    log:
        log_of("base"),
    benchmark:
        benchmark_of("base")
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
        spec=spec("base"),
        out=parent,
    message:
        "base: fetch {wildcards.model}"
    shell:
        "{params.script} --spec {params.spec:q} --out {params.out:q} > {log:q} 2>&1"


rule base:
    input:
        unpack(inputs("base")),
    output:
        pattern("base"),
    log:
        log_of("base"),
    benchmark:
        benchmark_of("base")
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
        runtime=minutes("base"),
    params:
        script=script("base"),
        spec=spec("base"),
        out=parent,
        launcher=launcher,
        means=means("base"),
    message:
        "base: train {wildcards.model}"
    # exec: a shell would die of the SIGTERM that lets the trainer save, and the job with it.
    shell:
        "HF_HUB_OFFLINE=1 exec {params.launcher}{params.script} --spec {params.spec:q}"
        " --corpus {input.corpus:q} --out {params.out:q} {params.means} > {log:q} 2>&1"
