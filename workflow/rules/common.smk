"""What every rules file uses: the validated study, its table of stages, and what of it stands.

The table (p2law.study.stages) says what each job reads and makes; the manifests say what is there
and right (p2law.results.stale). Snakemake's own reasons to run a job again (times, parameters,
code) are switched off: copied results scramble them. A result that no longer matches is forced, and
inputs of jobs that stand are ancient(). An output that Snakemake thinks incomplete is one whose job
was killed after its last act, writing the manifest: it is taken as it is.
"""

import os
import re
import sys
from pathlib import Path
from shlex import quote

sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "scripts"))

from p2law.canonical import canonical
from p2law.cluster.costs import Costs
from p2law.cluster.jobs import Jobs
from p2law.errors import UserError
from p2law.evaluation.downstream import require as require_lm_eval
from p2law.results.origin import read_study
from p2law.results.stale import Standing
from p2law.study.checks import check_study
from p2law.study.grid import Study
from p2law.study.stages import Stages
from p2law.study.stages.models import start

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import RerunTrigger

FILES = [os.path.relpath(f) for f in workflow.overwrite_configfiles] or ["config.yaml"]
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


SETTLED = []
"""The job graph that has been told."""


def settle():
    """Tell the job graph, while it is made, what must run: of that the manifests decide alone."""
    dag = workflow.dag
    if STANDING and dag not in SETTLED:
        SETTLED.append(dag)
        dag.ignore_incomplete = True
        workflow.dag_settings.rerun_triggers = frozenset({RerunTrigger.MTIME})
        STANDING.forced |= {
            STAGE_OF.get(rule.name, rule.name) for rule in dag.forcerules
        }
        STANDING.reasons |= {str(path): "asked for" for path in dag.forcefiles}
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


def downstream_targets(wildcards):
    """Every group's scores; refused before a job starts where lm-eval or the section is missing."""
    if STUDY.settings.downstream is None:
        raise WorkflowError(
            f"{ORIGIN}: downstream: missing; it says which tasks to run"
        )
    try:
        require_lm_eval()
    except UserError as error:
        raise WorkflowError(str(error)) from None
    return targets("downstream")(wildcards)


def checkpoints(stage):
    """A job's checkpoints as options: NAME=MANIFEST."""

    def options(wildcards, output):
        found = STAGES[stage].checkpoints(*names_of(stage, wildcards)).items()
        return " ".join(
            f"--checkpoint {quote(f'{n}={result(ref)}')}" for n, ref in found
        )

    return options


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


def one_of(names):
    """A wildcard's constraint: one of these names, or nothing at all."""
    return "|".join(map(re.escape, names)) or "(?!)"
