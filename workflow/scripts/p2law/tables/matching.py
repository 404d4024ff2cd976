"""Which achieved rates are about the same, so that methods may be compared at them."""

import pandas as pd

MATCHED = 0.01
"""The achieved rates of one group lie no farther apart than this."""


def matched_rates(table: pd.DataFrame) -> pd.Series:
    """For each row the mean achieved rate of its group: model by model, from the lowest rate on,
    each group holds all rates at most ``MATCHED`` above its first.

    ``table`` has columns model, family (if it has families) and rate.
    """
    keys = [column for column in ("family", "model") if column in table]
    return table.groupby(keys, sort=False)["rate"].transform(_of_one_model)


def _of_one_model(rates: pd.Series) -> pd.Series:
    order, first, groups = rates.sort_values(), float("-inf"), []
    for rate in order:
        if rate - first > MATCHED + 1e-9:  # .30 - .29 is a little above .01
            first = rate
        groups.append(first)
    return order.groupby(groups).transform("mean").reindex(rates.index)
