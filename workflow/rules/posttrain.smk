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
    threads: 1
    resources:
        gpu=lambda wc: COSTS.gpus(wc.model, trained=True),
        mem_mb=megabytes(lambda wc: COSTS.train_memory(wc.model)),
        runtime=minutes(
            lambda wc: COSTS.run_flops(run_of(wc)) * COSTS.run_tokens(run_of(wc))
        ),
    params:
        script=script("posttrain"),
        spec=lambda wc: canonical(SPECS.posttrain(run_of(wc))),
        variant=lambda wc, input: STUDY.variant_manifest(run_of(wc).variant),
        teacher=lambda wc, input: "".join(
            f" --teacher {path}" for path in input.get("teacher", [])
        ),
        out=lambda wc, output: Path(output[0]).parent.parent,
    message:
        "posttrain: {wildcards.model} {wildcards.run}"
    shell:
        "python {params.script} --spec {params.spec:q}"
        " --pruned {params.variant} --corpus {input.corpus}{params.teacher}"
        " --out {params.out} > {log} 2>&1"
