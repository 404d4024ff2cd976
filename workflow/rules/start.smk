"""What is looked at before the first job: the profile, and at the start of a run the cluster and the
hub. Included last, when all rules are known.
"""

from p2law.cluster.slurm import check_jobs, read_accounts, read_partitions, take_over
from p2law.cluster.profile import check_gpu_cap, check_profile
from p2law.results import origin
from p2law.results.cleaned import demand

# The jobs' own parse need not look.
if workflow.is_main_process:
    try:
        check_profile(
            {rule.name for rule in workflow.rules},
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


def wanted_from_hub(rules):
    """(kind, name, revision) of the hub's repositories that these local rules will download."""
    settings, found = STUDY.settings, []
    if "corpus" in rules and settings.corpus.source.kind == "hub":
        found.append(("dataset", settings.corpus.source))
    for family in settings.families.values():
        if "corpus" in rules and family.tokenizer.kind == "hub":
            found.append(("model", family.tokenizer))
        if "fetch" in rules:
            models = family.models.values()
            found += [("model", m) for m in models if m.source == "hub"]
    return [(kind, one.name, one.revision) for kind, one in found]


def check_slurm(jobs):
    """What Slurm would refuse or never start; then what a killed snakemake left in its queue."""
    submitted = [job for job in jobs if not job.is_local]
    asked = [(job.rule.name, job.resources) for job in submitted]
    check_jobs(asked, read_partitions(), read_accounts())
    left_behind = take_over(
        {slurm_comment(job) for job in submitted},
        workflow.workdir_init,
        workflow.overwrite_configfiles,
        workflow.config_settings.config_args or [],
    )
    if left_behind:
        numbers = ", ".join(left_behind)
        logger.info(
            f"Cancelled, to be continued: an earlier snakemake's jobs {numbers}"
        )


def check_hub(jobs):
    """Whether the hub gives what these jobs will download."""
    repositories = wanted_from_hub({job.rule.name for job in jobs})
    if repositories:
        from p2law.checkpoints.access import check_access

        check_access(repositories)


# Not called by a dry run, nor when a job parses this file: what can be known before the first job.
onstart:
    jobs = list(workflow.dag.needrun_jobs())
    if any(job.output for job in jobs):
        origin.leave(STUDY, FILES)
    try:
        if workflow.executor_plugin.name == "slurm":
            check_slurm(jobs)
        check_hub(jobs)
    except UserError as error:
        raise WorkflowError(str(error)) from None
    # Weights that were cleaned away and must come back: from here on they are simply missing.
    for job in jobs:
        for output in job.output:
            for manifest in STANDING.demanded.get(str(output), []):
                demand(manifest)
