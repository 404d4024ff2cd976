"""What every rules file uses: the validated study, upstream(), and what is stale.

Snakemake decides what to run from the files a target needs and from each rule's one recorded
parameter, its spec with key. File times say nothing here: a copy of the results scrambles them.
So inputs are ancient() unless they are about to be remade, and a stage whose manifest no longer
matches the study is forced (see p2law.results.stale).
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "scripts"))

from p2law.cluster.costs import Costs
from p2law.errors import UserError
from p2law.evaluation.downstream import require as require_lm_eval
from p2law.cluster.jobs import STARTING, Jobs
from p2law.canonical import canonical
from p2law.study.checks import check_study
from p2law.results.demand import demanded
from p2law.study.grid import Study
from p2law.study.specs import BASE, Specs
from p2law.results.stale import stale

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

ORIGIN = ", ".join(map(str, workflow.overwrite_configfiles)) or "config.yaml"

try:
    STUDY = Study(config, ORIGIN)
    check_study(STUDY, ORIGIN)
    COSTS = Costs(STUDY)
    JOBS = Jobs(COSTS, workflow.resource_settings.overwrite_resources)
    SPECS = Specs(STUDY)
    # Jobs that Slurm starts parse this file again; what they shall do is settled by then.
    STALE = stale(SPECS.expected()) if workflow.is_main_process else {}
    DEMANDED = demanded(SPECS, STALE) if workflow.is_main_process else {}
    STALE = DEMANDED | STALE
except UserError as error:
    raise WorkflowError(str(error)) from None

if STALE:
    names = "\n".join(f"  {path}: {reason}" for path, reason in STALE.items())
    logger.info(f"Stale, since the study has changed or files are gone:\n{names}")
    prepare_dag = workflow._prepare_dag

    def prepare_dag_and_force(*args, **kwargs):
        """Force stale outputs that the asked targets need; `--forcerun` would make them targets."""
        prepare_dag(*args, **kwargs)
        workflow.dag.forcefiles.update(STALE)

    # Private, since Snakemake has no hook between parsing and scheduling; tests/workflow holds it.
    workflow._prepare_dag = prepare_dag_and_force


wildcard_constraints:
    family="[^/]+",
    model="[^/]+",
    method="[^/]+",
    group="[^/]+",
    run="[^/]+",


def upstream(path):
    """An input whose age does not matter unless this invocation remakes it."""
    path = str(path)
    return path if path in STALE or not Path(path).exists() else ancient(path)


def kept(path, *outputs):
    """An input whose remaking alone is no reason to train again: a stale output is."""
    stale_outputs = [output for output in outputs if str(output) in STALE]
    return str(path) if stale_outputs else ancient(str(path))


def family_of(wildcards):
    return STUDY.models[wildcards.model].family


def parent(wildcards, output):
    """The folder a script writes: a parameter made from output is not recorded."""
    return Path(output[0]).parent


def script(name):
    """A stage's script; made from output, so that a moved checkout is no change of parameters."""
    return (
        lambda wildcards, output: Path(workflow.basedir) / f"workflow/scripts/{name}.py"
    )


def gpus(stage):
    """GPUs of a job over all its nodes, see p2law.cluster.jobs."""
    return lambda wildcards: JOBS.gpus(stage, wildcards.model)


def cores(stage):
    """Cores of a job on each node."""
    return lambda wildcards: JOBS.threads(stage, wildcards.model)


def minutes(stage, flops):
    """Walltime of a job of so many FLOPs."""
    return lambda wildcards, attempt: JOBS.minutes(
        stage, wildcards.model, flops(wildcards), attempt
    )


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
        script = Path(workflow.basedir) / "workflow/scripts/with_gpus.py"
        return f"python {script} {resources.gpu} "
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
            rows = JOBS.micro_rows(stage, wildcards.model)
            words += f" --micro-rows {rows}" if rows else " --micro-rows 1 --recompute"
        words += " --shard" if JOBS.shards(wildcards.model) else ""
        return words + (" --compile" if STUDY.settings.hardware.compile else "")

    return options


def one_of(names):
    """A wildcard's constraint: one of these names, or nothing at all."""
    return "|".join(map(re.escape, names)) or "(?!)"


def base_input(wildcards):
    """The corpus that a base model is trained on."""
    corpus = STUDY.corpus_manifest(family_of(wildcards))
    return kept(corpus, STUDY.base_manifest(wildcards.model))


def base_flops(wildcards):
    return 3 * COSTS.model_flops(wildcards.model) * COSTS.base_tokens(wildcards.model)


def run_flops(wildcards):
    run = run_of(wildcards)
    return COSTS.run_flops(run) * COSTS.run_tokens(run)


def evaluate_flops(wildcards):
    group = None if wildcards.group == BASE else wildcards.group
    return COSTS.evaluate_flops(wildcards.model, group)


def prune_input(wildcards):
    """A base and the corpus that holds its calibration windows."""
    output = STUDY.pruned_manifest(wildcards.model, wildcards.method)
    corpus = STUDY.corpus_manifest(family_of(wildcards))
    return {
        "base": kept(STUDY.base_manifest(wildcards.model), output),
        "corpus": kept(corpus, output),
    }


def posttrain_input(wildcards):
    """A method's pruned checkpoints, the corpus and, where the study distils, the teacher."""
    run = run_of(wildcards)
    outputs = [STUDY.point_manifest(run, D) for D in STUDY.budgets]
    pruned = STUDY.pruned_manifest(wildcards.model, run.variant.method)
    corpus = STUDY.corpus_manifest(family_of(wildcards))
    named = {"pruned": kept(pruned, *outputs), "corpus": kept(corpus, *outputs)}
    if STUDY.settings.posttrain.distil is not None:
        named["teacher"] = [kept(STUDY.base_manifest(wildcards.model), *outputs)]
    return named


def run_of(wildcards):
    return STUDY.runs[wildcards.model, wildcards.run]


def evaluate_input(wildcards):
    """Manifests of a group's checkpoints; a variant's is watched through its method's."""
    model, group = wildcards.model, wildcards.group
    paths = [path for path, _ in SPECS.checkpoints(model, group).values()]
    if group != BASE:
        # Below the study's folder, since a study may itself be called "pruned".
        variants = STUDY.root / "pruned"
        paths = [path for path in paths if not path.is_relative_to(variants)]
        paths.append(STUDY.pruned_manifest(model, group))
    return [upstream(path) for path in paths]


def downstream_input(wildcards):
    """Every group's scores; refused before a job starts where lm-eval or the section is missing."""
    if STUDY.settings.downstream is None:
        raise WorkflowError(
            f"{ORIGIN}: downstream: missing; it says which tasks to run"
        )
    try:
        require_lm_eval()
    except UserError as error:
        raise WorkflowError(str(error)) from None
    return [upstream(STUDY.downstream_manifest(*pair)) for pair in SPECS.groups()]


def results_law(wildcards):
    """The law, for figures and report: a study without runs has none."""
    return upstream(STUDY.stage_manifest("law")) if STUDY.runs else []


def same_study(wildcards, output):
    """Options that give Snakemake's reporter this invocation's Snakefile and study."""
    files = " ".join(f"'{path}'" for path in workflow.overwrite_configfiles)
    return f"--snakefile '{workflow.main_snakefile}'" + (
        f" --configfile {files}" if files else ""
    )
