"""Train one pruned model to every budget of its run: ``OUT/D<budget>/`` for each.

Ends with code 75 where a signal or the time limit stopped it with its state saved: start it again
with the same arguments and it goes on, bit for bit.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from p2law.commands import script
from p2law.training import command

if TYPE_CHECKING:
    from p2law.training.loop import Means


def main() -> int:
    """Read the arguments, train, report the exit code."""
    parser = script.parser(__doc__)
    script.spec_option(parser, "the run's spec")
    parser.add_argument("--pruned", type=Path, required=True, help="manifest of the pruned model")
    parser.add_argument("--corpus", type=Path, required=True, help="manifest of the corpus")
    parser.add_argument("--teacher", type=Path, help="manifest of the model to distil from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    command.add_options(parser)
    args = parser.parse_args()

    def train(limit: float | None, means: "Means") -> None:
        from p2law.training import run

        run.posttrain(args.spec, args.pruned, args.corpus, args.out, limit, means, args.teacher)

    return command.run(args, train)


if __name__ == "__main__":
    sys.exit(script.run(main))
