"""Provide one base model: trained here from random weights, or taken from a folder, hub or GGUF.

Ends with code 75 where a signal or the time limit stopped a training with its state saved: start
it again with the same arguments and it goes on, bit for bit.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from p2law import errors
from p2law.commands import script
from p2law.training import command

if TYPE_CHECKING:
    from p2law.training.loop import Means


def main() -> int:
    """Read the arguments, train or fetch, report the exit code."""
    parser = script.parser(__doc__)
    script.spec_option(parser, "the model's spec")
    parser.add_argument("--corpus", type=Path, help="manifest of the corpus, to train on")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    command.add_options(parser)
    args = parser.parse_args()

    if args.spec["source"] != "pretrain":
        fetch(args.spec, args.out)
        return 0
    if args.corpus is None:
        raise errors.UserError("--corpus: missing; a model is trained on a corpus")

    def train(limit: float | None, means: "Means") -> None:
        from p2law.training import pretrain

        pretrain.pretrain(args.spec, args.corpus, args.out, limit, means)

    return command.run(args, train)


def fetch(spec: dict, out: Path) -> None:
    """Bring a finished checkpoint into ``out``, count it and write its manifest."""
    from p2law.checkpoints import count, imported, io
    from p2law.results import manifest

    started = time.time()
    files = imported.fetch(spec, out)
    parameters = count.count(io.load(out))
    results = {"N0": parameters["total"], "N0_nonembedding": parameters["nonembedding"]}
    manifest.write_manifest(
        out, stage="base", spec=spec, inputs={}, files=files, results=results, started=started
    )


if __name__ == "__main__":
    sys.exit(script.run(main))
