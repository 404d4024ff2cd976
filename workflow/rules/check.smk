"""Before anything runs: check (the study is read and expanded whenever this file is parsed; here
the folders, packages and the profile are looked at) and cost (what the study will take).
"""

from p2law.study.cluster import check_jobs, read_partitions
from p2law.study.profile import check_gpu_cap, check_profile

# Every rule is known here, since this file is included last; the jobs' own parse need not look.
if workflow.is_main_process:
    try:
        check_profile(
            {rule.name for rule in workflow.rules} | {"check", "cost"},
            workflow.resource_settings.overwrite_resources,
        )
        check_gpu_cap(
            JOBS.largest(),
            workflow.resource_settings.resources.get("gpu").value,
        )
    except UserError as error:
        raise WorkflowError(str(error)) from None


# Not called by a dry run, nor when a job parses this file: what Slurm itself would refuse.
onstart:
    if workflow.executor_plugin.name == "slurm":
        jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
        try:
            check_jobs(
                [(job.rule.name, job.resources) for job in jobs], read_partitions()
            )
        except UserError as error:
            raise WorkflowError(str(error)) from None


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
        "python {params.script} --study {params.study:q} | tee {log}"


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
        "python {params.script} --study {params.study:q} | tee {log}"
