"""Write docs/config.md and studies/schema.json, for people and for editors, from the code."""

import json
import sys
from pathlib import Path

from p2law.canonical import write_text
from p2law.commands import script
from p2law.study.reference import markdown, schema

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to write them into")
    root = parser.parse_args().root
    write_text(root / "docs" / "config.md", markdown())
    write_text(root / "studies" / "schema.json", json.dumps(schema(), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(script.run(main))
