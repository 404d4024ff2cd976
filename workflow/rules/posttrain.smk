"""Post-trained checkpoints. Takes a pruned checkpoint, a packed corpus and, where the study
distils, the unpruned model; gives
posttrained/<model>/<run>/D<budget>/manifest.json for every budget, each beside an annealed
checkpoint. One job a run: a trunk with a decay branch at each budget; its state lies in state/.
"""


rule posttrain:
    input:
        unpack(posttrain_input),
    output:
        expand(
            f"{STUDY.root}/posttrained/{{{{model}}}}/{{{{run}}}}/D{{budget}}/manifest.json",
            # Without a posttrain section nothing asks for this rule, but it must have an output.
            budget=STUDY.budgets or [0],
        ),
    log:
        f"{STUDY.root}/logs/posttrain/{{model}}/{{run}}.log",
    benchmark:
        f"{STUDY.root}/benchmarks/posttrain/{{model}}/{{run}}.tsv"
    priority: 30
    conda:
        "../../envs/conda.yaml"
    threads: cores("posttrain")
    resources:
        gpu=gpus("posttrain"),
        nodes=nodes("posttrain"),
        tasks=if_several("posttrain", None),
        tasks_per_gpu=if_several("posttrain", 0),
        mpi=if_several("posttrain", "srun"),
        mem_mb=megabytes("posttrain"),
        runtime=minutes("posttrain", run_flops),
    params:
        script=script("posttrain"),
        spec=lambda wc: canonical(SPECS.posttrain(run_of(wc))),
        variant=lambda wc, input: STUDY.variant_manifest(run_of(wc).variant),
        teacher=lambda wc, input: "".join(
            f" --teacher {path}" for path in input.get("teacher", [])
        ),
        out=lambda wc, output: Path(output[0]).parent.parent,
        launcher=launcher,
        means=means("posttrain"),
    message:
        "posttrain: {wildcards.model} {wildcards.run}"
    # exec: a shell would die of the SIGTERM that lets the trainer save, and the job with it.
    shell:
        "HF_HUB_OFFLINE=1 exec {params.launcher}python {params.script} --spec {params.spec:q}"
        " --pruned {params.variant} --corpus {input.corpus}{params.teacher}"
        " --out {params.out} {params.means} > {log} 2>&1"
