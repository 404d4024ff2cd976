"""What a job asks of a machine, by rule: GPUs, nodes, cores, memory, walltime (p2law.cluster.jobs), and
how its command uses what it was granted.
"""

from p2law.cluster.jobs import STARTING


def gpus(stage):
    """GPUs of a job over all its nodes, see p2law.cluster.jobs."""
    return lambda wildcards: JOBS.gpus(stage, wildcards.model)


def cores(stage):
    """Cores of a job on each node."""
    return lambda wildcards: JOBS.threads(stage, wildcards.model)


def minutes(stage):
    """Walltime of a job."""

    def runtime(wildcards, attempt):
        flops = COSTS.job_flops(stage, *names_of(stage, wildcards))
        return JOBS.minutes(stage, wildcards.model, flops, attempt)

    return runtime


def megabytes(stage):
    """Host memory of a job on each node."""
    return lambda wildcards, attempt: JOBS.memory(stage, wildcards.model, attempt)


def nodes(stage):
    """Nodes of a job."""
    return lambda wildcards: JOBS.nodes(stage, wildcards.model)


def if_several(stage, value):
    """A resource that only a job over several nodes has; value None stands for their number."""

    def resource(wildcards):
        count = JOBS.nodes(stage, wildcards.model)
        return None if count == 1 else count if value is None else value

    return resource


def launcher(wildcards, threads, resources):
    """What stands before a script's command: nothing on CPUs, its GPUs on one node, srun on several.

    With the mpi resource a job's shell runs on its first node, and srun, which starts the script
    once on each, is left to it. Made from resources, so it is no recorded parameter: another number
    of GPUs or nodes runs nothing again.
    """
    if not resources.gpu:
        return ""
    count = resources.get("nodes", 1)
    if count == 1:
        return f"{script('with_gpus')(wildcards, None)} {resources.gpu} "
    return (
        f"srun --nodes={count} --ntasks={count} --ntasks-per-node=1 --cpus-per-task={threads}"
        f" --gres=gpu:{resources.gpu // count} --kill-on-bad-exit=1 "
    )


def means(stage):
    """How a training is computed on what it was granted: processes, sharding, time to stop at.

    Slurm's limit holds for the whole job: the trainer saves its state and leaves before it.
    """

    def options(wildcards, resources):
        seconds = 60 * resources.runtime
        limit = max(seconds / 2, seconds - STARTING)
        words = f"${{SLURM_JOB_ID:+--time-limit {limit:.0f}}}"
        if resources.gpu:
            words += f" --processes {resources.gpu // resources.nodes}"
            rows = JOBS.micro_rows(stage, *names_of(stage, wildcards))
            words += f" --micro-rows {rows}" if rows else " --micro-rows 1 --recompute"
        words += f" --device {STUDY.settings.hardware.device}"
        words += " --shard" if JOBS.shards(wildcards.model) else ""
        return words + (" --compile" if STUDY.settings.hardware.compile else "")

    return options
