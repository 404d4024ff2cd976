"""Evaluate checkpoints on the same held-out rows: loss, its standard error, bits per byte."""

import argparse
import sys
from pathlib import Path

from p2law.commands import script


def named(text: str) -> tuple[str, Path]:
    """NAME=PATH as a pair."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=MANIFEST")
    return name, Path(path)


def main() -> None:
    """Read the arguments and evaluate."""
    parser = script.parser(__doc__)
    script.spec_option(parser, "the stage's spec")
    parser.add_argument("--corpus", type=Path, required=True, help="manifest of the corpus")
    parser.add_argument(
        "--checkpoint",
        type=named,
        action="append",
        required=True,
        metavar="NAME=MANIFEST",
        help="a checkpoint to evaluate; repeat for more",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    script.device_option(parser)
    parser.add_argument(
        "--downstream", action="store_true", help="tasks by lm-eval instead of the held-out loss"
    )
    args = parser.parse_args()

    from p2law.evaluation import downstream, evaluate
    from p2law.training import machine

    machine.settle()
    stage = downstream.score if args.downstream else evaluate.evaluate
    stage(args.spec, args.corpus, dict(args.checkpoint), args.out, args.device)


if __name__ == "__main__":
    sys.exit(script.run(main))
