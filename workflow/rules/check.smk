"""Before anything runs: check (the study is read and expanded whenever this file is parsed; here
the folders, packages and the profile are looked at) and cost (what the study will take).
"""


rule check:
    conda:
        "../../envs/conda.yaml"
    params:
        study=canonical(config),
        rules=lambda wc: " ".join(sorted(r.name for r in workflow.rules)),
    message:
        "check: {STUDY.name}"
    shell:
        "python {workflow.basedir}/workflow/scripts/check.py --study {params.study:q}"
        " --rules {params.rules}"


rule cost:
    conda:
        "../../envs/conda.yaml"
    params:
        study=canonical(config),
    message:
        "cost: {STUDY.name}, estimated, and actual where it has run"
    shell:
        "python {workflow.basedir}/workflow/scripts/cost.py --study {params.study:q}"
