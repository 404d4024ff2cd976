"""Gather a finished study's figures, tables and provenance into one page, by Snakemake's reporter.

The reporter is a snakemake of its own. It reads the study as this one holds it, whatever files and
--config that came from: results/<study>/study.json. The page appears whole or not at all.
"""

import subprocess
import sys
import time
from pathlib import Path

from p2law.canonical import write_json
from p2law.commands import script
from p2law.errors import UserError
from p2law.results.manifest import write_manifest

PAGE = "report.html"


def main() -> None:
    """Write the study, call the reporter, write the manifest."""
    started = time.time()
    parser = script.parser(__doc__)
    script.spec_option(parser, "key and study")
    parser.add_argument("--snakefile", type=Path, required=True, help="the workflow's Snakefile")
    parser.add_argument("--figures", type=Path, required=True, help="the figures' manifest.json")
    parser.add_argument("--summary", type=Path, required=True, help="the summary's manifest.json")
    parser.add_argument("--out", type=Path, required=True, help="results/<study>/report")
    args = parser.parse_args()
    root = args.out.parent
    study, partial = root / "study.json", args.out / PAGE
    write_json(study, args.spec["study"])
    args.out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", args.snakefile]
    command += ["--configfile", study, "--nolock", "--cores", "1", "--report", partial]
    done = subprocess.run([*map(str, command), "--", "figures", "summary"])
    if done.returncode:
        raise UserError(f"snakemake --report ended with code {done.returncode}; see above")
    partial.replace(root / PAGE)
    write_manifest(
        args.out,
        stage="report",
        spec=args.spec,
        inputs={"figures": args.figures, "summary": args.summary},
        files=[f"../{PAGE}"],
        results={},
        started=started,
    )


if __name__ == "__main__":
    sys.exit(script.run(main))
