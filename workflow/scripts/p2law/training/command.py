"""What the scripts that train share: options of how to compute, processes, the exit code.

Imports no torch until the training starts.
"""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from p2law.commands import script
from p2law.training import launch

if TYPE_CHECKING:
    from p2law.training.loop import Means


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of how a run is computed, which is no part of what it is."""
    script.device_option(parser)
    parser.add_argument("--time-limit", type=float, help="seconds after which to save and stop")
    parser.add_argument("--processes", type=int, help="processes on each node (default: one a GPU)")
    parser.add_argument("--shard", action="store_true", help="split one copy of weights over them")
    parser.add_argument("--compile", action="store_true", help="torch.compile every layer")
    parser.add_argument("--recompute", action="store_true", help="keep no activations in layers")
    parser.add_argument("--micro-rows", type=int, help="rows of one forward and backward pass")


def run(args: argparse.Namespace, train: Callable[[float | None, "Means"], None]) -> int:
    """Call ``train(time limit, means)`` in this process or, where several are to train, in each.

    Returns the exit code: 0, or :data:`~p2law.training.stop.RETRY` where a signal or the time limit
    stopped the run with its state saved.
    """
    processes = launch.wanted(args.processes, args.device)
    if launch.is_needed(processes):
        return launch.run(processes)

    from p2law.training import loop, machine, stop

    machine.check(args.device)
    machine.settle()
    machine.meet(args.device)
    means = loop.Means(args.device, args.shard, args.compile, args.recompute, args.micro_rows)
    try:
        train(args.time_limit, means)
    except stop.Stopped as stopped:
        print(stopped, file=sys.stderr)
        return stop.RETRY
    return 0
