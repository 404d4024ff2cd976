"""One training over two nodes: a process group (gloo) through the rule that a GPU cluster uses."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

RUN = "results/faults/posttrained/tiny-16/depth-0.3"
POINT = f"{RUN}/D131072/manifest.json"
WIDE = {
    "device": "cuda",
    "gpus_per_node": 1,
    "cores_per_gpu": 1,
    "jobs": {"posttrain": {"gpu": 2, "mem_mb": 900, "runtime": 20}},
}
"""One (fake) GPU a node, two for the training, which computes on CPUs: the group is gloo's."""

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def wide(undisturbed, run_snakemake, tmp_path_factory) -> tuple[Path, str]:
    """The undisturbed study but for one run, which two nodes make again; what snakemake printed."""
    folder = tmp_path_factory.mktemp("wide") / "p2law"
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / RUN)
    path = folder / "tests/slurm/faults.yaml"
    study = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(study | {"hardware": WIDE}))
    # The GPUs are Slurm's alone: the trainer is told what it really computes on.
    rules = folder / "workflow/rules/resources.smk"
    told = "--device {STUDY.settings.hardware.device}"
    assert told in rules.read_text()
    rules.write_text(rules.read_text().replace(told, "--device cpu"))
    out = run_snakemake(folder, "--configfile", "tests/slurm/faults.yaml", "--", POINT)
    return folder, out


def test_another_kind_of_hardware_runs_nothing_else(wide):
    assert wide[1].count("has been submitted") == 1


def test_slurm_gave_two_whole_nodes_to_one_job(slurm, wide):
    made = json.loads((wide[0] / POINT).read_text())["provenance"]
    record = slurm.job(made["slurm"]["job"])
    assert record["JobState"] == "COMPLETED"
    assert (record["NumNodes"], record["NumTasks"]) == ("2", "2")
    assert record["TresPerJob"] == "gres:gpu:2"
    assert record["NodeList"] == made["slurm"]["nodes"] == "n[1-2]"
    assert made["processes"] == 2 and made["node"] == "n1"


def test_two_nodes_train_as_one_process(wide, undisturbed):
    alone, both = (
        json.loads((folder / POINT).read_text())["results"] for folder in (undisturbed, wide[0])
    )
    assert both["step"] == alone["step"] == 1024
    # The same batches, sums in another order: 1e-6 nats were seen after twice as many steps. A
    # group that exchanged no gradients would be another model: another seed's are 5e-2 away.
    assert both["last_losses"] == pytest.approx(alone["last_losses"], abs=1e-4)
