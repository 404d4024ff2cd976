"""The page of the pruned models, before any post-training."""

import pandas as pd

from p2law.report.html import table
from p2law.tables.matching import matched_rates

HEAD = (
    *("method", "what goes", "rate asked", "rate achieved", "loss", "damage"),
    *("standard error of the damage", "perplexity"),
)


def pruned(rows: pd.DataFrame) -> str:
    """Every pruned model before post-training (rows of the table oneshot), a table a model: those
    of about the same achieved rate together, best first.
    """
    rows = rows.assign(matched=matched_rates(rows))
    pages = []
    for (family, model), group in rows.groupby(["family", "model"], sort=False):
        group = group.sort_values(["matched", "Lp"], kind="stable")
        first = group.iloc[0]
        above = f"{family}, " if rows["family"].nunique() > 1 else ""
        caption = (
            f"{above}{model}: L0 {first['L0']:.4f} ± {first['L0_se']:.4f} nats per token on"
            f" {first['evaluation_tokens']:,} held-out tokens"
        )
        shown = ["method", "settings", "rate_asked", "rate", "Lp", "damage"]
        shown += ["damage_se", "perplexity"]
        pages.append(table(caption, HEAD, group[shown].values.tolist()))
    return "".join(pages)
