"""The report's pages: what they say, that numbers are counted right, families kept apart."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import law_simulate as simulate
from p2law.laws.deciding.candidates import candidates_of
from p2law.laws.deciding.study_laws import Laws
from p2law.laws.forms import registry
from p2law.laws.results import LawResults
from p2law.report import law_pages, pages, plan_page, pruned_page
from p2law.report.html import table


@pytest.fixture
def law(study_law) -> LawResults:
    return study_law[1]


def test_cells():
    html = table("a < b", ["x"], [[None], [True], [1.23456], ["<i>"], [["E", "alpha"]]])
    for part in ("a &lt; b", "&ndash;", "yes", "1.235", "&lt;i&gt;", "E, alpha"):
        assert part in html


def rows_of(html: str, caption: str) -> list[list[str]]:
    """The cells of one table of a page, its head left out."""
    found = html.split(f"<caption>{caption}")[1].split("</table>")[0]
    return [re.findall("<td>(.*?)</td>", row) for row in found.split("<tr>")[2:]]


def test_comparison_has_every_form_with_every_split(law):
    html = law_pages.comparison(law)
    for word in ("leave-one-method, %", "AICc", "chinchilla", "baseline: last value"):
        assert word in html
    first = next(row for row in rows_of(html, "All forms") if row[1:3] == ["all", "p2"])
    held = [
        h.errors for h in law.holdouts
        if (h.method, h.form, h.split) == ("all", "p2", "leave-one-method")
    ]  # fmt: skip
    mean = sum(e.mean_abs_rel_error * e.points for e in held) / sum(e.points for e in held)
    assert f"{100 * mean:.4g}" in first


def test_coverage_counts_points_once(law):
    rows = [h for h in law.holdouts if h.covered is not None and h.form == "p2"]
    count = sum(h.errors.points for h in rows)
    share, width = (
        100 * sum(value(h) * h.errors.points for h in rows) / count
        for value in (lambda h: h.covered, lambda h: h.interval_width)
    )
    found = rows_of(law_pages.coverage(law), "Held-out losses")
    expected = ["p2", "all", f"{share:.4g}", f"{width:.4g}", str(count)]
    assert expected in found
    assert {row[1] for row in found} > {"all", "size", "rate"}
    assert rows_of(law_pages.coverage(replace(law, holdouts=[])), "Held-out losses") == []


def test_every_fit_and_constant_is_told(law):
    html = law_pages.laws(law)
    assert len(rows_of(html, "Fit of every form")) == len(law.fits)
    constants = sum(len(fit.constants) for fit in law.fits if fit.replicates)
    assert len(rows_of(html, "Constants with 95 %")) == constants > 0
    assert len(rows_of(law_pages.every(law), "Every hold-out")) == len(law.holdouts)


def test_advice_names_the_open_constant(law):
    html = law_pages.advice(law)
    assert "gamma" in html and "Next runs" in html
    assert "determines every constant" in law_pages.advice(replace(law, advice=[]))


def test_the_plan_answers_every_variant_by_both_laws(study_law):
    laws = Laws(study_law[1], study_law[0])
    candidates = candidates_of(laws.table, {"sparse"})
    answered = plan_page.answers(laws, candidates, 1e15)
    assert len(answered) == len(candidates) * 2 * 3
    target = answered[(answered["rule"] == "target") & answered["tokens"].gt(0)]
    assert target["loss"].to_numpy() == pytest.approx(plan_page.TARGET * target["L0"].to_numpy())
    chosen = plan_page.choices(laws, candidates, 1e15)
    first = chosen[chosen["rank"] == 1]
    assert len(first) == len(plan_page.BUDGETS) * 2 * 2
    limited = chosen.dropna(subset="parameters")
    assert (limited["N"] <= limited["parameters"]).all()
    html = plan_page.page(answered, chosen, "a core's")
    assert "Best buys" in html and registry.DAMAGE in html


def test_the_plan_keeps_families_apart(crossed_laws, crossed_study):
    """Marginal levels, budgets, limits and ranks are each family's own; its name is shown."""
    candidates = [c for c in candidates_of(crossed_laws.table) if c.rho > 0.3]
    answered = plan_page.answers(crossed_laws, candidates, 1e15)
    rows = pd.read_parquet(crossed_study / "tables" / "losses.parquet")
    rows = rows[rows["recipe"] == "wsd"]
    for family, mine in rows.groupby("family"):
        wide = mine.pivot(index="run", columns="D", values="loss")
        (before, after) = wide.columns[-2:]
        slope = float(np.median((wide[before] - wide[after]) / (after - before) * 1e6))
        levels = answered[(answered["family"] == family) & (answered["rule"] == "marginal")]
        assert levels["level"].to_numpy() == pytest.approx(slope)
    chosen = plan_page.choices(crossed_laws, candidates, 1e15)
    first = chosen[chosen["rank"] == 1]
    assert len(first) == 2 * len(plan_page.BUDGETS) * 2 * 2
    for family, mine in chosen.groupby("family"):
        own = [c for c in candidates if c.family == family]
        cost = np.median([6 * c.trained * rows["D"].max() for c in own])
        assert sorted(mine["flops"].unique()) == pytest.approx([0.25 * cost, cost, 4 * cost])
        assert mine["parameters"].dropna().unique() == [np.median([c.N for c in own])]
    shown = rows_of(plan_page.page(answered, chosen, "a core's"), "Best buys")
    assert len(shown) == 2 * 3 * 2 * 2 * plan_page.SHOWN
    assert {row[0] for row in shown} == set(simulate.SCALE)


def test_end_slope_by_hand():
    rows = pd.DataFrame(
        {"run": ["a"] * 3 + ["b"] * 2, "D": [1e6, 2e6, 4e6, 1e6, 2e6],
         "loss": [3.0, 2.9, 2.5, 3.0, 2.6]}
    )  # fmt: skip
    assert plan_page.end_slope(rows) == pytest.approx(0.3)  # the median of .2 and .4 a 1e6 tokens


def test_pruned_models_are_grouped_as_in_their_figure(crossed_study):
    rows = pd.read_parquet(crossed_study / "tables" / "oneshot.parquet")
    html = pruned_page.pruned(rows)
    assert html.count("<caption>") == 2 * 3
    shown = rows_of(html, "first, first-m0")
    losses = [float(row[4]) for row in shown]
    # Eleven methods at about 20 %, best first, then eleven at about 40 %.
    assert losses == sorted(losses[:11]) + sorted(losses[11:]) and len(losses) == 22
    assert {row[2] for row in rows_of(html, "second, second-m1")} == {
        f"{rate:.4g}" for rate in (0.2, 0.201, 0.202, 0.4, 0.401, 0.402)
    }


def facts(**changed) -> pages.Facts:
    base = {"L0": 3.0, "standard error": 0.01}
    plain = pages.Facts(
        bases=[
            {"family": "b", "model": "small", "N0": 1e6} | base,
            {"family": "a", "model": "large", "N0": 2e6} | base,
            {"family": "a", "model": "little", "N0": 1e6} | base,
        ],
        coverage={"points": 7, "runs": 3},
        costs=[{"stage": "prune", "hours": 1.5}],
        spent=[{"stage": "prune", "hours": 1.25}],
        jobs=pd.DataFrame([{"stage": "prune", "joules": 12}, {"stage": "base", "joules": None}],
                          dtype=object),
        masked={"angular"},
        flops_per_hour=1e15,
        hours="a core's",
    )  # fmt: skip
    return replace(plain, **changed)


def test_every_page_of_two_families_is_written(crossed_study, tmp_path):
    files = pages.write(facts(), crossed_study / "tables", crossed_study / "law", tmp_path)
    assert sorted(files) == sorted(path.name for path in tmp_path.iterdir())
    assert {f for f in files if f.endswith(".html")} == {
        f"{name}.html" for name in ("oneshot", "law", "holdouts", "plan", "checks")
    }
    assert (tmp_path / "jobs.csv").read_text() == "stage,joules\nprune,12\nbase,\n"
    plan = pd.read_csv(tmp_path / "plan.csv")
    assert (
        set(plan["family"]) == set(simulate.SCALE)
        and "recipe wsd" in (tmp_path / "law.html").read_text()
    )
    masked = plan[plan["method"] == "angular"]
    assert (masked["trained"] == masked["N0"]).all()
    others = plan[plan["method"] != "angular"]
    assert (others["trained"] == others["N"]).all()


def test_without_runs_only_pruning_and_checks_are_told(crossed_study, tmp_path):
    files = pages.write(facts(), crossed_study / "tables", None, tmp_path)
    assert sorted(files) == ["checks.html", "jobs.csv", "oneshot.html"]


def test_checks_list_what_does_not_hold(law):
    html = pages.checks(facts(), law)
    models = [row[:2] for row in rows_of(html, "Base models")]
    assert models == [["a", "little"], ["a", "large"], ["b", "small"]]  # by size in each family
    assert len(rows_of(html, "Runs whose loss rises")) == len(law.rises) > 0
    assert len(rows_of(html, "Points below")) == len(law.below_base)
    assert rows_of(html, "Coverage") == [["7", "3"]]
    assert rows_of(html, "Estimated cost") == [["prune", "1.5"]]
    assert rows_of(html, "Estimate against actual") == [["prune", "1.25"]]
    assert "Estimate against" not in pages.checks(facts(spent=[]), None)
