"""Before anything runs: check (the study is read and expanded whenever this file is parsed; here
the folders, packages and the profile are looked at) and cost (what the study will take).
"""

from p2law.cleaned import demand
from p2law.study.cluster import check_jobs, read_partitions, take_over
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


def slurm_comment(job):
    """What the Slurm plugin writes of a job where squeue shows it."""
    from snakemake_executor_plugin_slurm.utils import get_job_wildcards

    wildcards = get_job_wildcards(job)
    return f"rule_{job.name}_wildcards_{wildcards}" if wildcards else f"rule_{job.name}"


# Not called by a dry run, nor when a job parses this file: what Slurm itself would refuse.
onstart:
    # Weights that were cleaned away and must come back: from here on they are simply missing.
    for job in workflow.dag.needrun_jobs():
        for path in {str(path) for path in job.output} & DEMANDED.keys():
            # A method's rates lie below its manifest.
            for mark in (Path(path), *Path(path).parent.glob("*/manifest.json")):
                demand(mark)
    if workflow.executor_plugin.name == "slurm":
        jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
        try:
            check_jobs(
                [(job.rule.name, job.resources) for job in jobs], read_partitions()
            )
            left_behind = take_over(
                {slurm_comment(job) for job in jobs},
                workflow.workdir_init,
                [str(path) for path in workflow.overwrite_configfiles],
            )
            if left_behind:
                logger.info(
                    "Cancelled, to be continued: an earlier snakemake's jobs "
                    + ", ".join(left_behind)
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
