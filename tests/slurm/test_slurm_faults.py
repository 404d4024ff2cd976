"""What goes wrong on a cluster, once each, in one study on the local Slurm: its table must be the
undisturbed run's.

Five runs train at once; each is frozen (SIGSTOP) after its first steps, so that faults hit
trainings that have begun, whatever the machine's speed. Then, in this order: one is preempted, one
cancelled by hand, one killed as the kernel kills a job that is out of memory, one held until its
time limit ends it; slurmctld is killed and started again; snakemake is killed while the fifth
trains, and started again; a node is drained and dies under its jobs.
"""

import json
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

TARGETS = ("--configfile", "tests/slurm/faults.yaml", "--", "tables")
RUNS = ("depth-0.3", *(f"depth-0.3-seed{seed}" for seed in range(1, 5)))
STEPS = 819 + 51 + 102 + 205
"""Of a run that nothing interrupts: its trunk to the last fork, and the decays of its budgets."""

pytestmark = pytest.mark.slurm


def until(what: str, look: Callable[[], object], seconds: float = 240) -> object:
    """Wait for something to be true; returns it."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return found


class Scene:
    """A checkout whose study runs through Slurm, and what happens to it."""

    def __init__(self, folder: Path, slurm, environment: dict[str, str]) -> None:
        self.folder, self.slurm, self.environment = folder, slurm, environment
        self.controller: subprocess.Popen | None = None
        self.log = folder / "controller.log"
        self.frozen: dict[str, int] = {}
        self.seen: dict[str, str] = {}

    def start(self) -> None:
        """Start snakemake, whose output goes to one log."""
        words = ["--profile", str(self.slurm.folder / "profile.yaml"), "--jobs", "5", *TARGETS]
        with self.log.open("a") as log:
            self.controller = subprocess.Popen(
                ["snakemake", *words],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill snakemake, as a crash of its machine would."""
        if self.controller and self.controller.poll() is None:
            os.killpg(self.controller.pid, signal.SIGKILL)
            self.controller.wait()

    def lease(self, run: str) -> dict | None:
        """What the trainer of a run says of itself, None where none holds it."""
        base = self.folder / f"results/faults/posttrained/tiny-16/{run}/state"
        for path in base.glob("*/lease.json"):
            try:
                return json.loads(path.read_text())
            except (OSError, ValueError):
                continue
        return None

    def freeze(self, run: str) -> bool:
        """Freeze a run's trainer once it has taken a step; whether it was that or is frozen."""
        held = self.lease(run)
        if held is None or not held["progress"].get("step"):
            return False
        if held["pid"] != self.frozen.get(run):
            os.kill(held["pid"], signal.SIGSTOP)
            self.frozen[run] = held["pid"]
        return True

    def freeze_next(self, run: str) -> bool:
        """Freeze a run's trainer if it is one that was not frozen before; whether it is."""
        held = self.lease(run)
        return bool(held and held["pid"] not in self.frozen.values()) and self.freeze(run)

    def jobs(self) -> dict[str, list[dict[str, str]]]:
        """Slurm's records of each run's jobs, in the order of submission."""
        records = defaultdict(list)
        for line in self.slurm.command("scontrol", "--oneliner", "show", "job").splitlines():
            record = dict(word.split("=", 1) for word in line.split() if "=" in word)
            rule, _, wildcards = record.get("Comment", "").partition("_wildcards_")
            if rule == "rule_posttrain" and record["WorkDir"] == str(self.folder):
                records[wildcards.removeprefix("tiny-16_")].append(record)
        return {run: sorted(r, key=lambda one: int(one["JobId"])) for run, r in records.items()}

    def record(self, run: str) -> dict[str, str]:
        """Slurm's record of a run's latest job."""
        return self.jobs()[run][-1]

    def number(self, run: str) -> str:
        """The number of a run's latest job."""
        return self.record(run)["JobId"]

    def release(self, run: str) -> None:
        """Wait for a job to be requeued, and let it start now; Slurm would wait two minutes."""

        def requeued() -> bool:
            record = self.record(run)
            return record["Restarts"] != "0" and record["JobState"] == "PENDING"

        until(f"the job of {run} in the queue again", requeued)
        self.slurm.command("scontrol", "update", f"JobId={self.number(run)}", "StartTime=now")


def preempt(scene: Scene) -> list[str]:
    """An urgent job takes the node with fewer trainings; the runs that had to go."""
    places: dict[str, list[str]] = defaultdict(list)
    for run, records in scene.jobs().items():
        places[records[-1]["NodeList"]].append(run)
    node, victims = min(places.items(), key=lambda place: len(place[1]))
    urgent = ["sbatch", "-p", "urgent", "-w", node, "--exclusive", "--mem=100", "-o/dev/null"]
    scene.slurm.command(*urgent, "--wrap=sleep 2")
    for run in victims:
        scene.release(run)
    return victims


def lose_node(scene: Scene) -> str:
    """A node is drained, and dies under a training; the run that was on it."""

    run = until(
        "a training of the second controller",
        lambda: next((run for run in RUNS if scene.freeze_next(run)), None),
    )
    node = scene.record(run)["NodeList"]
    scene.slurm.command("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    scene.slurm.lose_node(node)
    scene.release(run)
    scene.slurm.start_daemon(f"slurmd-{node}")
    scene.slurm.command("scontrol", "update", f"NodeName={node}", "State=RESUME")
    for other in RUNS:
        record = scene.record(other)
        if record["JobState"] == "PENDING" and record["Restarts"] != "0":
            scene.release(other)
    return run


@pytest.fixture(scope="module")
def scene(slurm, environment, checkout, tmp_path_factory) -> Iterator[Scene]:
    """The story, told once."""
    scene = Scene(checkout(tmp_path_factory.mktemp("faults")), slurm, environment)
    try:
        first_controller(scene)
        second_controller(scene)
        yield scene
    finally:
        print(scene.log.read_text()[-6000:])
        scene.kill()


def first_controller(scene: Scene) -> None:
    """Preemption, scancel, out of memory, time limit, slurmctld's death; then snakemake's own."""
    slurm, seen = scene.slurm, scene.seen
    scene.start()
    until("five trainings", lambda: sum(map(scene.freeze, RUNS)) == len(RUNS), 420)
    seen["preempted"], *others = preempt(scene)
    left = [run for run in RUNS if run not in (seen["preempted"], *others)] + others
    seen["cancelled"], seen["memory"], seen["limit"], seen["orphan"] = left
    if seen["orphan"] in others:  # preempted too: it shall not end before the controller does
        until("the orphan's second start", lambda: scene.freeze_next(seen["orphan"]))
    slurm.command("scancel", scene.number(seen["cancelled"]))
    os.kill(scene.frozen[seen["memory"]], signal.SIGKILL)
    slurm.command("scontrol", "update", f"JobId={scene.number(seen['limit'])}", "TimeLimit=1")
    # It saves its state every few seconds; what it had not saved, no Slurm could know again.
    told, saved = time.time(), slurm.folder / "state" / "job_state"
    until("slurmctld's state on the disk", lambda: saved.stat().st_mtime > told)
    slurm.kill_daemon("slurmctld")
    slurm.start_daemon("slurmctld")
    ends = {"cancelled": "CANCELLED", "memory": "FAILED", "limit": "TIMEOUT"}
    for name, state in ends.items():
        until(state, lambda n=name, s=state: scene.jobs()[seen[n]][0]["JobState"] == s)
    until("the retry of the run at its limit", lambda: len(scene.jobs()[seen["limit"]]) > 1)
    assert scene.record(seen["orphan"])["JobState"] == "RUNNING"
    scene.kill()


def second_controller(scene: Scene) -> None:
    """Started as a user would after a crash; a node dies meanwhile."""
    subprocess.run(
        ["snakemake", "--unlock", *TARGETS[:2]],
        cwd=scene.folder,
        env=scene.environment,
        check=True,
        capture_output=True,
    )
    scene.start()
    scene.seen["lost"] = lose_node(scene)
    assert scene.controller.wait(timeout=420) == 0


def trained_steps(scene: Scene, run: str) -> int:
    """Steps that the processes which wrote a run's points had taken since the point before."""
    folder = scene.folder / f"results/faults/posttrained/tiny-16/{run}"
    points = [json.loads(p.read_text())["results"] for p in folder.glob("D*/manifest.json")]
    assert len(points) == 3
    return sum(p["trunk_tokens"] + p["branch_tokens"] for p in points) // 128


def test_the_table_is_the_undisturbed_runs(scene, undisturbed, sha256):
    table = "results/faults/tables/losses.parquet"
    assert sha256(scene.folder / table) == sha256(undisturbed / table)


def test_a_preempted_job_is_requeued_and_goes_on(scene):
    first = scene.jobs()[scene.seen["preempted"]][0]
    assert first["Restarts"] != "0"


def test_a_job_at_its_limit_is_tried_again_with_twice_the_time(scene):
    first, second, *_ = scene.jobs()[scene.seen["limit"]]
    assert first["JobState"] == "TIMEOUT"
    assert (first["TimeLimit"], second["TimeLimit"]) == ("00:01:00", "00:20:00")


def test_a_job_cancelled_by_hand_and_one_out_of_memory_are_tried_again(scene):
    jobs = scene.jobs()
    cancelled, killed = jobs[scene.seen["cancelled"]], jobs[scene.seen["memory"]]
    assert cancelled[0]["JobState"] == "CANCELLED" and killed[0]["JobState"] == "FAILED"
    for records in (cancelled, killed):
        assert records[-1]["JobState"] == "COMPLETED"
    memory = [int(record["MinMemoryNode"].rstrip("MG")) for record in killed[:2]]
    assert memory[1] == pytest.approx(2 * memory[0], abs=1)


def test_a_new_controller_takes_over_what_the_killed_one_left(scene):
    orphan = scene.jobs()[scene.seen["orphan"]]
    assert orphan[0]["JobState"] == "CANCELLED"
    assert orphan[-1]["JobState"] == "COMPLETED"
    told = [line for line in scene.log.read_text().splitlines() if "an earlier snakemake" in line]
    assert len(told) == 1 and orphan[0]["JobId"] in told[0]


def test_jobs_of_a_lost_node_are_requeued(scene):
    records = scene.jobs()[scene.seen["lost"]]
    assert any(record["Restarts"] != "0" for record in records)
    assert records[-1]["JobState"] == "COMPLETED"


def test_no_run_had_two_writers(scene):
    form = "%Y-%m-%dT%H:%M:%S"
    for records in scene.jobs().values():
        for one, other in zip(records, records[1:], strict=False):
            ended = datetime.strptime(one["EndTime"], form)
            assert ended <= datetime.strptime(other["StartTime"], form)
    logs = (scene.folder / "results/faults/logs/posttrain").rglob("*.log")
    assert not any("taken this run over" in log.read_text() for log in logs)


def test_interrupted_trainings_went_on_from_their_states(scene):
    # Cancelled by hand, preempted and cancelled by the new controller: each had SIGTERM and time
    # to save. The others' states lie where a budget's branch had left the trunk, if at all.
    for name in ("cancelled", "preempted", "orphan"):
        assert trained_steps(scene, scene.seen[name]) < STEPS
