"""The sbatch options of every job of a study, from the Slurm plugin itself, without a Slurm.

    envs/run python tests/slurm/options.py studies/paper.yaml > tests/slurm/paper_options.txt

Snakemake parses the study with slurm/profile.yaml, placeholders filled in, and builds its DAG as
for a real run; the plugin then writes each job's sbatch line, of which the options that matter are
printed. Jobs of local rules are submitted nowhere and are printed as such.
"""

import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"SET-ACCOUNT": "acc", "SET-CPU-PARTITION": "cpu", "SET-GPU-PARTITION": "gpu"}
KEPT = ("-A", "-p", "-t", "--mem", "--nodes", "--ntasks", "--ntasks-per-gpu", "--requeue")
KEPT += ("--cpus-per-task", "--gres", "--gpus")


def site_profile(folder: Path) -> Path:
    """slurm/profile.yaml as a user fills it in."""
    text = (ROOT / "slurm" / "profile.yaml").read_text()
    for placeholder, name in NAMES.items():
        text = text.replace(placeholder, name)
    (folder / "profile.yaml").write_text(text)
    return folder


def submitted(study: str, *words: str) -> Iterator[tuple[str, str]]:
    """(job, its sbatch options) of a study in which nothing has run; 'local' for local jobs."""
    from snakemake.cli import main
    from snakemake.workflow import Workflow
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    lines: list[tuple[str, str]] = []

    def capture(
        workflow: Workflow, executor_plugin: object, executor_settings: object, **_: object
    ) -> bool:
        workflow._executor_plugin, workflow.executor_settings = executor_plugin, executor_settings
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=False)
        workflow._build_dag()
        for job in workflow.dag.needrun_jobs():
            named = " ".join([job.rule.name, *job.wildcards])
            if job.is_local:
                lines.append((named, "local"))
                continue
            asked = job.resources
            params = dict.fromkeys(("run_uuid", "slurm_logfile", "comment_str"), "x")
            params |= {"account": f"-A {asked.slurm_account}", "workdir": None}
            params["partition"] = f"-p {asked.slurm_partition}"
            call = get_submit_command(job, params, executor_settings) + set_gres_string(job)
            lines.append((named, kept(call)))
        return True

    with tempfile.TemporaryDirectory() as folder:
        profile = str(site_profile(Path(folder)))
        with mock.patch.object(Workflow, "execute", capture), contextlib.suppress(SystemExit):
            # A name of its own: nothing of it has run here.
            call = ["--profile", profile, "--configfile", study, "--config", "study=never-run"]
            main(["--snakefile", str(ROOT / "Snakefile"), *call, *words])
    yield from sorted(lines)


def kept(call: str) -> str:
    """The options of KEPT, in the order of the sbatch line."""
    options = re.findall(r"(?<= )(--?[a-zA-Z-]+)(?:[= ](?!-)(\S+))?", call)
    return " ".join(f"{name} {value}".strip() for name, value in options if name in KEPT)


if __name__ == "__main__":
    for job, options in submitted(*sys.argv[1:]):
        print(f"{job}: {options}")
