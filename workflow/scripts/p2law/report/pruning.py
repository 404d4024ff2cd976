"""Tables of the pruned models, before any post-training."""

from pathlib import Path

import pandas as pd

from p2law.report.html import table
from p2law.tables.oneshot import matched_rates


def oneshot(tables: Path) -> str:
    """Every pruned model before post-training, by model and rate, best first."""
    rows = pd.read_parquet(tables.parent / "oneshot.parquet")
    pages = []
    for model, group in rows.groupby("model", sort=False):
        group = group.assign(matched=matched_rates(group["rate"]))
        group = group.sort_values(["matched", "Lp"], kind="stable")
        first = group.iloc[0]
        pages.append(
            table(
                f"{model}: L0 {first['L0']:.4f} ± {first['L0_se']:.4f} nats per token on"
                f" {first['evaluation_tokens']:,} held-out tokens",
                [
                    *("method", "what goes", "rate asked", "rate achieved", "loss", "damage"),
                    *("standard error of the damage", "perplexity"),
                ],
                [
                    [
                        *(row.method, row.settings, row.rate_asked, row.rate, row.Lp, row.damage),
                        *(row.damage_se, row.perplexity),
                    ]
                    for row in group.itertuples()
                ],
            )
        )
    return "".join(pages)
