"""The report's tables from a simulated study: what they say, and that numbers are counted right."""

import pandas as pd
import pytest
from p2law.laws.deciding.plan import Laws
from p2law.laws.deciding.variants import variants_of

from p2law.laws.forms import registry
from p2law.report import laws as pages
from p2law.report import plan
from p2law.report.html import table


@pytest.fixture
def law(study_law) -> dict:
    return study_law[1]


def test_cells():
    html = table("a < b", ["x"], [[None], [True], [1.23456], ["<i>"], [["E", "alpha"]]])
    for part in ("a &lt; b", "&ndash;", "yes", "1.235", "&lt;i&gt;", "E, alpha"):
        assert part in html


def test_comparison_has_every_form_with_every_split(law):
    html = pages.comparison(law)
    for word in ("leave-one-method, %", "AICc", "chinchilla", "baseline: last value"):
        assert word in html


def test_coverage_counts_points_once(law):
    rows = [h for h in law["holdouts"] if h["covered"] is not None and h["form"] == "p2"]
    share = sum(r["covered"] * r["points"] for r in rows) / sum(r["points"] for r in rows)
    assert f"<td>{100 * share:.4g}</td>" in pages.coverage(law)


def test_advice_names_the_open_constant(law):
    html = pages.advice(law)
    assert "gamma" in html and "Next runs" in html
    assert "determines every constant" in pages.advice({**law, "advice": []})


def test_the_plan_answers_every_variant_by_both_laws(study_law):
    table, law = study_law
    laws = Laws(law, pd.DataFrame(law["draws"]), table)
    variants = variants_of(table, {"sparse"})
    answered = plan.answers(laws, variants, 1e15)
    assert len(answered) == len(variants) * 2 * 3
    target = answered[(answered["rule"] == "target") & answered["tokens"].gt(0)]
    assert target["loss"].to_numpy() == pytest.approx(plan.TARGET * target["L0"].to_numpy())
    chosen = plan.choices(laws, variants, 1e15)
    first = chosen[chosen["rank"] == 1]
    assert len(first) == len(plan.BUDGETS) * 2 * 2
    limited = chosen.dropna(subset="parameters")
    assert (limited["N"] <= limited["parameters"]).all()
    html = plan.page(answered, chosen, "a core's")
    assert "Best buys" in html and registry.DAMAGE in html


def test_end_slope_by_hand():
    rows = pd.DataFrame(
        {"run": ["a"] * 3 + ["b"] * 2, "D": [1e6, 2e6, 4e6, 1e6, 2e6],
         "loss": [3.0, 2.9, 2.5, 3.0, 2.6]}
    )  # fmt: skip
    assert plan.end_slope(rows) == pytest.approx(0.3)  # the median of .2 and .4 a 1e6 tokens
