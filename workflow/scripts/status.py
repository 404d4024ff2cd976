"""Show what every training of a study is doing: done, running, stopped, failed, waiting."""

import sys
import time
from pathlib import Path

import yaml

from p2law import errors
from p2law.commands import script
from p2law.results import status
from p2law.study.grid import Study
from p2law.study.stages import Stages


def main() -> None:
    """Print the table once, or again and again."""
    parser = script.parser(__doc__)
    parser.add_argument("study", nargs="?", type=Path, default=Path("config.yaml"), help="its file")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of results")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="repeat until Ctrl-C")
    args = parser.parse_args()
    if not args.study.exists():
        raise errors.UserError(f"{args.study}: no such study file")
    study = Study(yaml.safe_load(args.study.read_text()), str(args.study), args.results)
    stages = Stages(study)
    while True:
        shown = status.table(list(status.rows(stages)))
        print(f"\033[2J\033[H{shown}" if args.every else shown, flush=True)
        if not args.every:
            return
        try:
            time.sleep(args.every)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    sys.exit(script.run(main))
