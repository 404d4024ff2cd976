"""Write docs/config.md from the study's schema."""

import sys
from pathlib import Path

from p2law.canonical import write_text
from p2law.commands import script
from p2law.study.reference import markdown

TARGET = Path(__file__).parents[2] / "docs" / "config.md"


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--out", type=Path, default=TARGET, help="file to write")
    write_text(parser.parse_args().out, markdown())


if __name__ == "__main__":
    sys.exit(script.run(main))
