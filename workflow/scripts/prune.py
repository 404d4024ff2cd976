#!/usr/bin/env python
"""Prune one base model by one method, at all its rates.

The spec is one JSON object: key, method (its name), prune (the method's settings as in a study
file, without rates), calibration {"windows": n}, seed, and variants: a folder name for each rate
-> {"key", "rate"}. Variants that are there with the same key and intact files are kept.
"""

import sys
from pathlib import Path

from p2law.commands import script


def main() -> None:
    parser = script.parser(__doc__)
    script.spec_option(parser, "what to make")
    parser.add_argument("--base", required=True, type=Path, help="the base model's manifest.json")
    parser.add_argument("--corpus", required=True, type=Path, help="the corpus's manifest.json")
    parser.add_argument("--out", required=True, type=Path, help="folder of the method's variants")
    script.device_option(parser)
    args = parser.parse_args()

    from p2law.pruning.stage import Stage

    Stage(args.spec, args.base, args.corpus, args.out, args.device).run()


if __name__ == "__main__":
    sys.exit(script.run(main))
