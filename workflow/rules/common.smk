"""What every rules file uses: the validated study, its table of stages, and what of it stands.

The table (p2law.study.stages) says what each job reads and makes; the manifests say what is there
and right (p2law.results.stale). Snakemake's own reasons to run a job again (times, parameters,
code) are switched off: copied results scramble them. A result that no longer matches is forced, and
inputs of jobs that stand are ancient(). An output that Snakemake thinks incomplete is one whose job
was killed after its last act, writing the manifest: it is taken as it is.
"""

import re
import sys
from pathlib import Path
from shlex import quote

sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "scripts"))

from p2law.canonical import canonical
from p2law.cluster.costs import Costs
from p2law.cluster.jobs import STARTING, Jobs
from p2law.errors import UserError
from p2law.results.origin import read_study
from p2law.results.stale import Standing
from p2law.study.checks import check_study
from p2law.study.grid import Study
from p2law.study.stages import Stages, start

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import RerunTrigger

FILES = [str(path) for path in workflow.overwrite_configfiles] or ["config.yaml"]
ORIGIN = ", ".join(FILES)

try:
    STUDY = read_study(config, FILES)
    STAGES = Stages(STUDY)
    check_study(STAGES, ORIGIN)
    COSTS = Costs(STAGES)
    JOBS = Jobs(COSTS, workflow.resource_settings.overwrite_resources)
    # Jobs that Slurm starts parse this file again; what they shall do is settled by then.
    STANDING = Standing(STAGES) if workflow.is_main_process else None
except UserError as error:
    raise WorkflowError(str(error)) from None

if STANDING:
    for room, (path, recipe) in STANDING.drifted.items():
        logger.warning(
            f"{room}/ changed since {path} and others were made, RECIPE is still {recipe}"
        )
    if STANDING.reasons:
        names = "\n".join(f"  {p}: {reason}" for p, reason in STANDING.reasons.items())
        logger.info(f"Stale, since the study has changed or files are gone:\n{names}")


wildcard_constraints:
    **{name: "[^/]+" for stage in STAGES.values() for name in stage.wildcards},


def settle():
    """Tell the job graph, while it is made, what must run: of that the manifests decide alone."""
    dag = workflow.dag
    if STANDING and not dag.ignore_incomplete:
        dag.ignore_incomplete = True
        workflow.dag_settings.rerun_triggers = frozenset({RerunTrigger.MTIME})
        STANDING.forced |= {
            STAGE_OF.get(rule.name, rule.name) for rule in dag.forcerules
        }
        dag.forcefiles.update(STANDING.reasons)


STAGE_OF = {"fetch": "base", "downstream_group": "downstream"}
"""Rules that are not called like the stage whose jobs they run."""


def inputs(stage):
    """A rule's named inputs, as the table says; those of a job that stands are no reason to run."""

    def named(wildcards):
        settle()
        job = names_of(stage, wildcards)
        found = {}
        for name, paths, reason in standing_inputs(STAGES[stage], job):
            found[name] = paths if reason else [ancient(path) for path in paths]
        return found

    return named


def standing_inputs(stage, job):
    if STANDING:
        return STANDING.inputs(stage, job)
    named = stage.reads(*job).items()
    return [
        (name, [str(STAGES[r.stage].output(r.names)) for r in refs], False)
        for name, refs in named
    ]


def targets(*stages):
    """Outputs of stages that a study has one job of; of those that this study has."""

    def paths(wildcards):
        settle()
        return [
            str(p)
            for s in stages
            for job in STAGES[s].jobs()
            for p in STAGES[s].outputs(*job)
        ]

    return paths


def pattern(stage, *below):
    """A rule's output, log or benchmark: the stage's path with its wildcards in braces."""
    return str(
        STAGES[stage].path(*(f"{{{w}}}" for w in STAGES[stage].wildcards), *below)
    )


def log_of(stage):
    return str(STAGES[stage].log(*(f"{{{w}}}" for w in STAGES[stage].wildcards)))


def benchmark_of(stage):
    return str(STAGES[stage].benchmark(*(f"{{{w}}}" for w in STAGES[stage].wildcards)))


def names_of(stage, wildcards):
    return tuple(wildcards[name] for name in STAGES[stage].wildcards)


def spec(stage):
    """What a job is told, as JSON. Made from output, like all that is no recorded parameter."""
    return lambda wildcards, output: canonical(
        STAGES[stage].spec(*names_of(stage, wildcards))
    )


def result(ref):
    """The path of a result's manifest."""
    return STAGES.path(ref)


def parent(wildcards, output):
    """The folder a script writes."""
    return Path(output[0]).parent


def script(name):
    """A script with the interpreter that runs snakemake: a job's shell may find another one."""

    def command(wildcards, output):
        path = Path(workflow.basedir) / f"workflow/scripts/{name}.py"
        deployed = workflow.deployment_settings.deployment_method
        return f"{'python' if deployed else quote(sys.executable)} {quote(str(path))}"

    return command


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
        words += " --shard" if JOBS.shards(wildcards.model) else ""
        return words + (" --compile" if STUDY.settings.hardware.compile else "")

    return options


def one_of(names):
    """A wildcard's constraint: one of these names, or nothing at all."""
    return "|".join(map(re.escape, names)) or "(?!)"
