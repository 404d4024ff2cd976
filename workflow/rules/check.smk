"""Before anything runs: check (the study is read and expanded whenever the Snakefile is parsed; here
the folders and packages are looked at) and cost (what the study will take).
"""


rule check:
    log:
        f"{STUDY.root}/logs/check.log",
    conda:
        "../../envs/conda.yaml"
    params:
        script=script("check"),
        study=canonical(config),
    message:
        "check: is the study sound, and what will it make?"
    shell:
        "{params.script} --study {params.study:q} | tee {log:q}"


rule cost:
    log:
        f"{STUDY.root}/logs/cost.log",
    conda:
        "../../envs/conda.yaml"
    params:
        script=script("cost"),
        study=canonical(config),
    message:
        "cost: estimated, and actual where it has run"
    shell:
        "{params.script} --study {params.study:q} | tee {log:q}"
