"""Build a corpus folder: split documents, tokenizer, memory-mapped tokens, manifest."""

import json
import os
import sys
from pathlib import Path

from p2law.commands import script


def main() -> None:
    """Read the arguments, build, print what was counted."""
    parser = script.parser(__doc__)
    script.spec_option(parser, "the corpus' spec")
    parser.add_argument("--out", required=True, type=Path, help="results/<study>/corpus/<family>")
    parser.add_argument(
        "--needs-tokens", type=int, default=0, help="training tokens that must not repeat"
    )
    parser.add_argument("--threads", type=int, help="threads of the tokenizer (default: cores)")
    given = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    if given.threads:  # read once, when the library is loaded
        os.environ["RAYON_NUM_THREADS"] = str(given.threads)

    from p2law.corpus.build import build

    results = build(given.spec, given.out, given.needs_tokens)
    for split, counts in results["splits"].items():
        print(f"{split}: " + ", ".join(f"{n:,} {name}" for name, n in counts.items()))
    print(f"dropped: {json.dumps(results['dropped'])}")


if __name__ == "__main__":
    sys.exit(script.run(main))
