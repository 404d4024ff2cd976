"""Write docs/config.md from the study's schema."""

import argparse
import sys
from pathlib import Path

from p2law.errors import run
from p2law.manifest import write_text
from p2law.study.reference import markdown

TARGET = Path(__file__).parents[2] / "docs" / "config.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET, help="file to write")
    write_text(parser.parse_args().out, markdown())


if __name__ == "__main__":
    sys.exit(run(main))
