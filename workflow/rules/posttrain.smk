"""Post-trained checkpoints. Takes a pruned checkpoint (of a control, the base itself), a packed corpus
and, where the recipe distils, the unpruned model; gives
posttrained/<model>/<run>/D<budget>/manifest.json for every budget, each beside an annealed
checkpoint. One job a run: a trunk with a decay branch at each budget; its state lies in state/.
"""


rule posttrain:
    input:
        unpack(inputs("posttrain")),
    output:
        # Without a posttrain section nothing asks for this rule, but it must have an output.
        [pattern("posttrain", f"D{budget}") for budget in STUDY.budgets or [0]],
    log:
        log_of("posttrain"),
    benchmark:
        benchmark_of("posttrain")
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
        runtime=minutes("posttrain"),
    params:
        script=script("posttrain"),
        spec=spec("posttrain"),
        start=lambda wc, output: result(start(STUDY.runs[wc.model, wc.run].variant)),
        teacher=lambda wc, input: "".join(
            f" --teacher {quote(path)}" for path in input.get("teacher", [])
        ),
        out=lambda wc, output: Path(output[0]).parent.parent,
        launcher=launcher,
        means=means("posttrain"),
    message:
        "posttrain: {wildcards.model} {wildcards.run}"
    # exec: a shell would die of the SIGTERM that lets the trainer save, and the job with it.
    shell:
        "HF_HUB_OFFLINE=1 exec {params.launcher}{params.script} --spec {params.spec:q}"
        " --pruned {params.start:q} --corpus {input.corpus:q}{params.teacher}"
        " --out {params.out:q} {params.means} > {log:q} 2>&1"
