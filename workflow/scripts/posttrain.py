"""Train one pruned model to every budget of its run: ``OUT/D<budget>/`` for each.

Ends with code 75 where a signal or the time limit stopped it with its state saved: start it again
with the same arguments and it goes on, bit for bit.
"""

import argparse
import json
import sys
from pathlib import Path

from p2law import errors


def main() -> int:
    """Read the arguments, train, report the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=json.loads, required=True, help="the run's spec, JSON")
    parser.add_argument("--pruned", type=Path, required=True, help="manifest of the pruned model")
    parser.add_argument("--corpus", type=Path, required=True, help="manifest of the corpus")
    parser.add_argument("--teacher", type=Path, help="manifest of the model to distil from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--time-limit", type=float, help="seconds after which to save and stop")
    parser.add_argument("--processes", type=int, help="processes on each node (one a GPU)")
    parser.add_argument("--shard", action="store_true", help="split one copy of weights over them")
    parser.add_argument("--compile", action="store_true", help="torch.compile every layer")
    parser.add_argument("--recompute", action="store_true", help="keep no activations in layers")
    parser.add_argument("--micro-rows", type=int, help="rows of one forward and backward pass")
    args = parser.parse_args()

    from p2law.training import launch

    processes = launch.wanted(args.processes)
    if launch.is_needed(processes):
        return launch.run(processes)

    from p2law.training import loop, machine, run, stop

    machine.settle()
    means = loop.Means(args.shard, args.compile, args.recompute, args.micro_rows)
    try:
        run.posttrain(
            args.spec, args.pruned, args.corpus, args.out, args.time_limit, means, args.teacher
        )
    except stop.Stopped as stopped:
        print(stopped, file=sys.stderr)
        return stop.RETRY
    return 0


if __name__ == "__main__":
    sys.exit(errors.run(main))
