"""The simulation of benchmarks/ against cases whose answer is known."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "cluster_simulation.py"


@pytest.fixture(scope="module")
def model():
    spec = importlib.util.spec_from_file_location("cluster_simulation", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def wall(model, todo, sizes, each=8, queue=0.0, overhead=0.0):
    return model.simulate(todo, model.Cluster(list(sizes), each), queue, overhead, 0.0, 0)


def test_equal_jobs_fill_the_cluster_in_waves(model):
    todo = [model.Task(f"t{i}", 1, 2.0) for i in range(20)]
    assert wall(model, todo, [8]) == (pytest.approx(6.0), pytest.approx(40.0))  # 8 + 8 + 4
    assert wall(model, todo, [8, 8, 8])[0] == pytest.approx(2.0)


def test_a_chain_pays_queue_and_overhead_at_every_link(model):
    todo = [
        model.Task("a", 1, 1.0),
        model.Task("b", 1, 2.0, ("a",)),
        model.Task("c", 1, 3.0, ("b",)),
    ]
    assert wall(model, todo, [8], queue=0.5, overhead=0.25)[0] == pytest.approx(6 + 3 * 0.75)


def test_a_job_over_nodes_waits_for_whole_ones(model):
    todo = [model.Task("wide", 16, 1.0), model.Task("small", 1, 5.0)]
    # The longest goes first and blocks one of two nodes; with three nodes both run at once.
    assert wall(model, todo, [8, 8])[0] == pytest.approx(6.0)
    assert wall(model, todo, [8, 8, 8])[0] == pytest.approx(5.0)


def test_no_gpu_is_given_twice(model):
    cluster = model.Cluster([4, 4], 4)
    jobs = [model.Task(f"t{i}", 3, 1.0) for i in range(3)]
    assert [cluster.place(job) for job in jobs] == [True, True, False]
    cluster.release(jobs[0])
    assert cluster.place(jobs[2]) and sum(cluster.free) == 2
