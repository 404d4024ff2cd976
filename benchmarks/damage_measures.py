"""Other damage measures than the loss for every pruned variant of a study, as CSV.

    damage_measures.py results/default --out damage.csv

All compare a pruned model with its base on the same held-out rows, before any post-training
(docs/damage.md tells what the search that reads them found, benchmarks/damage_search.py):

kl            mean KL divergence of the next-token distributions, base from pruned, nats per token
state_error   |h' - h|² / |h|² of the last hidden states (after the final norm), summed over tokens
layer_error   the same after each block that both models have, mean over these blocks

The two errors are None where pruning has changed the size of the hidden state.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import pandas as pd  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from p2law import canonical
from p2law.checkpoints import io  # noqa: E402
from p2law.commands import script
from p2law.corpus.packed import Packed  # noqa: E402
from p2law.errors import UserError  # noqa: E402
from p2law.evaluation import heldout  # noqa: E402
from p2law.laws.table import read_table  # noqa: E402
from p2law.results import manifest  # noqa: E402
from p2law.training import machine  # noqa: E402

BATCH_ROWS = 16


@torch.inference_mode()
def measure(
    base: nn.Module, pruned: nn.Module, rows: heldout.Rows, removed: list[int]
) -> dict[str, float | None]:
    """The three measures of one pruned model; ``removed`` are the base's blocks that it lacks."""
    blocks = base.config.num_hidden_layers
    kept = [i for i in range(blocks) if i not in removed]
    same_width = base.config.hidden_size == pruned.config.hidden_size
    divergence, ends, layers = 0.0, torch.zeros(2), torch.zeros(2, len(kept))
    for start in range(0, len(rows.tokens), BATCH_ROWS):
        batch = torch.from_numpy(rows.tokens[start : start + BATCH_ROWS, :-1])
        first, second = (
            model(input_ids=batch, use_cache=False, output_hidden_states=True)
            for model in (base, pruned)
        )
        p, q = (out.logits.float().log_softmax(-1) for out in (first, second))
        divergence += float((p.exp() * (p - q)).sum())
        if not same_width:
            continue
        # Entry 0 is the embedding, entry i the state after block i, the last after the final norm.
        ends += _squares(first.hidden_states[-1], second.hidden_states[-1])
        for place, block in enumerate(kept[:-1]):
            states = first.hidden_states[block + 1], second.hidden_states[place + 1]
            layers[:, place] += _squares(*states)
    errors: dict[str, float | None] = {"state_error": None, "layer_error": None}
    if same_width:
        layers[:, -1] = ends
        errors["state_error"] = float(ends[0] / ends[1])
        errors["layer_error"] = float((layers[0] / layers[1]).mean())
    return {"kl": divergence / rows.targets, **errors}


def _squares(state: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.stack([(other - state).double().square().sum(), state.double().square().sum()])


def measure_study(root: Path, corpora: Mapping[str, str], tokens: int) -> list[dict[str, Any]]:
    """One row a pruned variant of a study's results folder: model, method, rate and measures.

    ``corpora`` maps a model's name to its family's. Reads manifests for what lies where.
    """
    rows: dict[str, heldout.Rows] = {}
    found = []
    for model, family in corpora.items():
        if family not in rows:
            rows[family] = heldout.choose(Packed(root / "corpus" / family), tokens)
        base = io.load(root / "base" / model)
        for path in sorted((root / "pruned" / model).glob("*/*/manifest.json")):
            variant = manifest.read_manifest(path)
            removed = variant["results"].get("layers_removed", [])
            measures = measure(base, io.load(path.parent), rows[family], removed)
            found.append({
                "model": model, "method": path.parts[-3], "rate_asked": float(path.parts[-2]),
                **measures,
            })  # fmt: skip
    return found


def main() -> None:
    """Measure every variant that the study's tables know."""
    parse = script.parser(__doc__)
    parse.add_argument("study", type=Path, help="a study's results folder")
    parse.add_argument("--tokens", type=int, default=16_384, help="held-out tokens (16384)")
    parse.add_argument("--out", type=Path, required=True, help="CSV to write")
    options = parse.parse_args()
    machine.settle()
    table = read_table(options.study / "tables" / "losses.parquet")
    models = table.drop_duplicates("model")
    corpora = dict(zip(models["model"], models["family"], strict=True))
    rows = measure_study(options.study, corpora, options.tokens)
    if not rows:
        raise UserError(f"{options.study / 'pruned'}: no pruned variants")
    canonical.write_text(options.out, pd.DataFrame(rows).to_csv(index=False))


if __name__ == "__main__":
    sys.exit(script.run(main))
