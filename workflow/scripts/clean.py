"""Delete checkpoints and training states that a study no longer needs; tells first what would go.

Without --delete nothing is touched. What the study's tables were made from stays valid: a cleaned
stage runs again only where a changed study needs its weights. Policies: see p2law/results/keep.py.
"""

import sys
from collections import defaultdict
from pathlib import Path

import yaml

from p2law import errors
from p2law.commands import script
from p2law.results.keep import POLICIES, Keep
from p2law.study.grid import Study
from p2law.study.stages import Stages


def main() -> None:
    """Read the arguments, list, delete if told to."""
    parser = script.parser(__doc__)
    parser.add_argument("study", type=Path, help="the study file")
    parser.add_argument("--keep", choices=POLICIES, required=True, help="which checkpoints stay")
    parser.add_argument(
        "--snapshots", type=int, default=1, help="trunk snapshots to keep of each run (default: 1)"
    )
    parser.add_argument("--delete", action="store_true", help="delete, instead of telling")
    args = parser.parse_args()
    if args.snapshots < 0:
        raise errors.UserError(f"--snapshots {args.snapshots}: must be 0 or more")
    study = Study(yaml.safe_load(args.study.read_text(encoding="utf-8")), str(args.study))
    sizes: dict[str, list[int]] = defaultdict(list)
    for item in list(Keep(Stages(study), args.keep, args.snapshots).items()):
        sizes[item.what].append(item.bytes)
        print(f"{item.bytes / 1e6:>12,.1f} MB  {item.what:24} {item.path.parent}/{item.path.name}")
        if args.delete:
            item.delete()
    for what, each in sizes.items():
        print(f"{sum(each) / 1e6:>12,.1f} MB  {len(each)} x {what}")
    total = sum(map(sum, sizes.values())) / 1e6
    print(
        f"{total:>12,.1f} MB  " + ("deleted" if args.delete else "would go; delete with --delete")
    )


if __name__ == "__main__":
    sys.exit(script.run(main))
