#!/usr/bin/env python
"""Prune one base model by one method, at all its rates.

The spec is one JSON object: key, method (its name), prune (the method's settings, see
p2law/pruning/names.py), calibration {"windows": n}, seed, and variants: a folder name for each
rate -> {"key", "rate"}. Variants that are there with the same key and intact files are kept.
"""

import argparse
import json
import sys
from pathlib import Path

from p2law import errors
from p2law.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spec", required=True, help="what to make, as JSON")
    parser.add_argument("--base", required=True, type=Path, help="the base model's manifest.json")
    parser.add_argument("--corpus", required=True, type=Path, help="the corpus's manifest.json")
    parser.add_argument("--out", required=True, type=Path, help="folder of the method's variants")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    args = parser.parse_args()
    try:
        spec = json.loads(args.spec)
    except json.JSONDecodeError as error:
        raise UserError(f"--spec: not JSON ({error})") from None

    import torch

    from p2law.pruning.stage import Stage

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    Stage(spec, args.base, args.corpus, args.out, device).run()


if __name__ == "__main__":
    sys.exit(errors.run(main))
