#!/usr/bin/env python3
"""Fetch the public tables that the acceptance tests fit, from their origins, and check them.

The tables are other people's measurements and are not part of this repository. Each is read from
one commit of its origin, flattened to a CSV of numbers, and kept only if its sha256 is the known
one: what `tests/laws/test_acceptance.py` compares are optima of exactly these rows.

    envs/run python benchmarks/public_tables.py             # into .tables/ of this checkout
    envs/run python benchmarks/public_tables.py --list      # origins and licences; fetches nothing

About 120 small files. ``--base`` is another host with the same paths (a mirror, file:///...).
"""

import csv
import hashlib
import io
import json
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from p2law.canonical import sha256_file, write_text  # noqa: E402
from p2law.commands import script  # noqa: E402
from p2law.errors import UserError  # noqa: E402

BASE = "https://raw.githubusercontent.com"
FOLDER = ROOT / ".tables"
Read = Callable[[str], str]
"""Text of one file of an origin, by its path there."""


@dataclass(frozen=True)
class Table:
    """One table: where it comes from, how it is flattened, what it must be."""

    origin: str  # repository/commit
    licence: str
    make: Callable[[Read], str]
    sha256: str


def chinchilla(read: Read) -> str:
    """The points that Besiroglu et al. (arXiv 2404.10102) read off Chinchilla's figure."""
    return read("data/epoch_chinchilla_svg_extracted_data.csv")


def frantar_t5(read: Read) -> str:
    """T5 runs of Frantar et al. (arXiv 2309.08520), without the column of row numbers."""
    rows = csv.reader(io.StringIO(read("jaxpruner/projects/bigsparse/t5-data.csv")))
    return _csv((row[1:] for row in rows), end="\n")


def frantar_vit(read: Read) -> str:
    """ViT runs of the same paper, as pandas reads its own JSON (the last digit of four losses)."""
    text = read("jaxpruner/projects/bigsparse/vit-data.json")
    return pd.read_json(io.StringIO(text)).to_csv(index=False, lineterminator="\n")


GADRE_MODELS = ("d=96_l=8_h=4", "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8")
GADRE_TIMES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
GADRE_LARGE = {
    "c4_original": ("open_lm_1b-1.0", "open_lm_1b-4.0", "open_lm_7b-1.0"),
    "rpj": ("open_lm_1b-1.0", "open_lm_1b-32.0", "open_lm_7b-1.0"),
    "rw_original": ("open_lm_1b-1.0", "open_lm_1b-16.0", "open_lm_7b-1.0"),
}
GADRE_ABSENT = "c4_original-d=1024_l=24_h=8-32.0.json"  # the one run of the grid that there is not


def gadre_models(read: Read) -> str:
    """Models of Gadre et al. (arXiv 2403.08540): losses with their 95 % intervals, a row a run."""
    rows = []
    for data, large in GADRE_LARGE.items():
        small = [f"{model}-{times}" for model in GADRE_MODELS for times in GADRE_TIMES]
        names = [f"{data}-{name}.json" for name in (*small, *large)]
        rows += [_gadre_row(name, read) for name in names if name != GADRE_ABSENT]
    return _csv([rows[0], *(row.values() for row in rows)])


def _gadre_row(name: str, read: Read) -> dict[str, object]:
    run = json.loads(read(f"exp_data/models/{name}"))
    settings = run["hyperparameters"]
    row = {"file": name, "dataset": run["dataset_name"]}
    row["model"] = Path(settings["model"]).name.removesuffix(".json")
    row |= {"cc_mult": settings["chinchilla_multiplier"], "N": settings["params"]}
    row["D"] = settings["tokens"]
    for result in run["results"]:
        held = _gadre_held(Path(result["val_data"][0]))
        row[f"loss_{held}"] = result["loss"]
        row[f"lo95_{held}"] = result["loss_sequences_lower_95"]
        row[f"hi95_{held}"] = result["loss_sequences_upper_95"]
    return row


def _gadre_held(shard: Path) -> str:
    """.../c4_val/shard-{...}.tar, .../paloma_ptb/00000001.tar, .../de-en/val_de-en_100.tar."""
    return shard.stem if shard.stem.startswith("val_") else shard.parent.name


OLMO_SIZES = {"190M": 190354176, "370M": 371262464, "760M": 758220288, "1B": 1279395840}


def olmo_ladder_c4(read: Read) -> str:
    """The ladder of Bhagia et al. (arXiv 2412.04403): C4 loss, mean of the last 5 evaluations."""
    rows: list[list] = [["run", "N", "D", "c4_loss_mean_last5"]]
    for size, parameters in OLMO_SIZES.items():
        for times in (1, 2, 5, 10):
            name = f"{size}-{times}xC"
            text = read(f"src/scripts/paper/data/ladder-runs/{name}.csv")
            found = list(csv.DictReader(io.StringIO(text)))
            last = [float(row["eval/c4_en-validation/CrossEntropyLoss"]) for row in found[-5:]]
            tokens = int(float(found[-1]["throughput/total_tokens"]))
            rows.append([name, parameters, tokens, sum(last) / len(last)])
    return _csv(rows)


def _csv(rows: Iterable[Iterable], end: str = "\r\n") -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator=end).writerows(rows)
    return out.getvalue()


GEMSTONES = "mcleish7/gemstone-scaling-laws/5f420478f6057b0cbb4d13405fb10ca64675bccb"
JAXPRUNER = "google-research/jaxpruner/f133ee50f31a03d0152b8b272edb534065152f5d"
OPEN_LM = "mlfoundations/scaling/a003c4913793ac2ae7ef87b28ecb562955d026d5"
LADDER = "allenai/OLMo-ladder/67a3f440f787d020da35e3ca8eeae475fae754f5"

TABLES: dict[str, Table] = {
    "chinchilla.csv": Table(
        GEMSTONES,
        "MIT",
        chinchilla,
        "193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30",
    ),
    "frantar_t5.csv": Table(
        JAXPRUNER,
        "Apache-2.0",
        frantar_t5,
        "a6aaec6ec3b469d23cd57a42889bb880609c88394343215a7ba29c342c4a0bb9",
    ),
    "frantar_vit.csv": Table(
        JAXPRUNER,
        "Apache-2.0",
        frantar_vit,
        "ed0b85e36b492ce836f3ab5ef5a4aad38c7196fb60634c03b3c9527ed2837b5c",
    ),
    "gadre_models.csv": Table(
        OPEN_LM,
        "MIT",
        gadre_models,
        "85c23702238cac871d4eed30069b0553eb0434fdc9bfb3bc2c3620055a2386ee",
    ),
    "olmo_ladder_c4.csv": Table(
        LADDER,
        "Apache-2.0",
        olmo_ladder_c4,
        "fffda696f46e54bfc16f7a9ff41557d8cd4b3437398761977c8016a7ee8aa8de",
    ),
}


def make(table: Table, base: str) -> str:
    """A table's text, from its origin under ``base``; refused where it is not the known one."""

    def read(path: str) -> str:
        address = f"{base.rstrip('/')}/{table.origin}/{urllib.parse.quote(path)}"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return answer.read().decode()
        except OSError as error:
            raise UserError(f"{address}: {error}; --base names another host") from None

    text = table.make(read)
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != table.sha256:
        raise UserError(f"{table.origin}: its table has sha256 {found}, not {table.sha256}")
    return text


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder (default: %(default)s)")
    parser.add_argument("--base", default=BASE, help="where the origins lie (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="name origins and licences, no more")
    options = parser.parse_args()
    for name, table in TABLES.items():
        path = options.out / name
        if options.list:
            print(f"{name:20} {table.licence:10} https://github.com/{table.origin}")
        elif path.is_file() and sha256_file(path) == table.sha256:
            print(f"{path}: there")
        else:
            write_text(path, make(table, options.base))
            print(f"{path}: fetched, sha256 as known")


if __name__ == "__main__":
    sys.exit(script.run(main))
