"""Two families, two recipes, two seeds, eleven methods: plan, buy and advise keep them apart.

The second family is the first with every loss times 1.3, as another tokenizer's are: whatever is in
tokens or FLOPs must come out the same in both, and whatever is in nats 1.3 times as large.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import law_simulate as simulate
from p2law.errors import UserError
from p2law.laws.deciding.answers import answer
from p2law.laws.deciding.buy import fewest_flops, lowest_loss, plan_tables
from p2law.laws.deciding.candidates import by_family, candidates_of
from p2law.laws.deciding.curves import curve, for_residual
from p2law.laws.deciding.question import Question
from p2law.laws.deciding.study_laws import Laws
from p2law.laws.forms import registry
from p2law.laws.forms.registry import HEADLINE
from p2law.laws.judging.uncertainty import run_level_interval

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
TRIED = simulate.METHODS[: simulate.FULL]
"""Methods that were tried in both families."""
BUDGETS = [16384.0 * 2**k for k in range(4)]


@pytest.fixture
def known(crossed_laws) -> list:
    """Candidates of the methods that both families have."""
    return [c for c in candidates_of(crossed_laws.table) if c.method in TRIED]


def refusal(script: str, *options: object) -> str:
    done = subprocess.run(
        [sys.executable, script, *map(str, options)], cwd=SCRIPTS, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr


def test_the_best_buys_are_ranked_in_each_family_by_itself(crossed_laws, known):
    chosen = lowest_loss(crossed_laws, known, 1e11, 1e15)
    assert len(known) == 2 * 3 * 3 * 2  # families, methods, sizes, rates
    orders = {}
    for form in HEADLINE:
        for family in simulate.SCALE:
            mine = [c for c in chosen if (c.form, c.candidate.family) == (form, family)]
            assert [c.rank for c in mine] == list(range(1, 19))
            assert [c.loss for c in mine] == sorted(c.loss for c in mine)
            orders[form, family] = mine
        for one, other in zip(orders[form, "first"], orders[form, "second"], strict=True):
            assert other.loss == pytest.approx(1.3 * one.loss, rel=2e-4)
            assert other.tokens == pytest.approx(one.tokens)


def test_the_cheapest_ways_are_ranked_in_each_family_by_itself(crossed_laws, known):
    """Targets of each family's own; the second's are dearer in nats, never in FLOPs."""
    answers = [
        a for c in known if c.rho > 0.3
        for a in answer(crossed_laws, c, {"target": c.L0 * 1.02}, 1e15)
    ]  # fmt: skip
    cheapest = fewest_flops(answers)
    assert [a.candidate.family for a in cheapest] == sorted(a.candidate.family for a in cheapest)
    groups = {}
    for a in cheapest:
        groups.setdefault((a.candidate.family, a.form), []).append(a)
    for form in HEADLINE:
        one, other = groups["first", form], groups["second", form]
        for mine in (one, other):
            assert [a.flops for a in mine] == sorted(a.flops for a in mine)
        assert [a.flops for a in other] == pytest.approx([a.flops for a in one], rel=0.02)


def test_a_law_rests_on_one_recipes_rows_however_many_the_table_has(crossed_study, crossed_laws):
    table = pd.read_parquet(crossed_study / "tables" / "losses.parquet")
    table = table.assign(rho=table["rate"])
    assert set(table["recipe"]) == {"wsd", "read"} and set(crossed_laws.table["recipe"]) == {"wsd"}
    alone = Laws(crossed_laws.results, table[table["recipe"] == "wsd"])
    whole = Laws(crossed_laws.results, table)
    rules = {"target": 3.33, "residual": 0.01, "marginal": 0.1}
    for candidate in candidates_of(alone.table)[:4]:
        assert answer(whole, candidate, rules, 1e15) == answer(alone, candidate, rules, 1e15)


def test_intervals_count_the_runs_that_were_fitted(crossed_laws):
    """Three sizes, two rates and two seeds of one recipe are 12 runs, not 24, not all families'."""
    candidate = candidates_of(crossed_laws.table)[0]
    (found,) = answer(crossed_laws, candidate, {"residual": 0.01}, 1e15, ["p2"])
    fit = crossed_laws.results.fit("first", "blocks", "p2")
    drawn = crossed_laws.results.draws.query(
        "family == 'first' and method == 'blocks' and form == 'p2'"
    )
    constants = {name: drawn[name].to_numpy() for name in fit.constants}
    tokens = for_residual(curve(registry.get("p2"), constants, candidate.measured()), 0.01)
    assert (found.low, found.high) == run_level_interval(found.tokens, tokens, 12)


def test_what_is_beyond_the_data_and_never_trained_is_told_by_the_own_family(crossed_study):
    table = pd.read_parquet(crossed_study / "tables" / "losses.parquet")
    table = table.assign(rho=table["rate"])
    table.loc[table["family"] == "second", "D"] *= 1000
    laws = Laws.read(crossed_study / "law", crossed_study / "tables" / "losses.parquet")
    laws = Laws(laws.results, table)
    one, other = (by_family(candidates_of(table))[family][0] for family in simulate.SCALE)
    for candidate, status in ((one, "beyond the data"), (other, "ok")):
        fit = laws.fit(candidate, "p2")
        assert laws.within(fit, 5e7) == status
    wanda = Question(
        target=4.3, family="second", model=other.model, method="wanda", Lp=4.5
    ).candidates(candidates_of(table))
    trusts = {a.trust.split(":")[0] for a in answer(laws, wanda[0], {"target": 4.3}, 1e15)}
    assert trusts == {"method never post-trained"}  # the first family's runs do not count


def test_a_model_of_ones_own_is_answered_by_the_family_named(crossed_laws):
    known = candidates_of(crossed_laws.table)
    own = {"N0": 3e5, "rate": "0.3", "method": "blocks"}
    with pytest.raises(UserError, match="several families.*--family: first, second"):
        Question(target=3.3, L0=3.2, **own).candidates(known)
    with pytest.raises(UserError, match="--family third: allowed: first, second"):
        Question(target=3.3, L0=3.2, family="third", **own).candidates(known)
    tokens = {}
    for family, scale in simulate.SCALE.items():
        question = Question(target=3.25 * scale, L0=3.2 * scale, family=family, **own)
        (candidate,) = question.candidates(known)
        assert candidate.family == family
        (found,) = answer(crossed_laws, candidate, question.rules, 1e15, ["p2"])
        tokens[family] = found.tokens
    assert tokens["second"] == pytest.approx(tokens["first"], rel=0.02)


def test_a_plan_of_one_family_has_that_familys_rows_alone(crossed_laws):
    known = candidates_of(crossed_laws.table)
    question = Question(target=3.4, flops=1e11, family="second")
    tables = plan_tables(
        crossed_laws, question.candidates(known), question.rules, question.flops, 1e15
    )
    assert {row["family"] for rows in tables.values() for row in rows} == {"second"}


def test_plan_and_advise_name_the_families_that_must_be_chosen_from(crossed_study, run_script):
    shown = run_script("plan.py", crossed_study, "--flops", 1e11, "--method", "blocks")
    head, *rows = shown.splitlines()[1:]
    assert head.split()[0] == "family" and {row.split()[0] for row in rows if row} == {
        "first", "second",
    }  # fmt: skip
    own = ("--N0", 3e5, "--L0", 3.2, "--Lp", 3.6, "--target", 3.3)
    assert "--family: first, second" in refusal("plan.py", crossed_study, *own)
    assert "--family: first, second" in refusal("advise.py", crossed_study)
    assert "--recipe cosine: the table has wsd, read" in refusal(
        "advise.py", crossed_study, "--family", "first", "--recipe", "cosine"
    )


@pytest.mark.parametrize(
    ("options", "tokens", "base", "masked"),
    [
        ((), sum(BUDGETS), 3e6, False),  # wsd is a cosine in this study: every budget from zero
        (("--recipe", "read"), BUDGETS[-1], 3e6, False),
        (("--method", "angular"), sum(BUDGETS), 3e6, True),
        (("--family", "second"), sum(BUDGETS), 5e6, False),
    ],
)
def test_the_cost_of_a_next_run_is_its_recipes(
    crossed_study, run_script, tmp_path, options, tokens, base, masked
):
    """6 N D by the recipe's own schedule, 6 N0 D where zeros stay, and the family's base tokens."""
    if "--family" not in options:
        options = ("--family", "first", *options)
    if "--method" not in options:
        options = ("--method", "blocks", *options)
    out = tmp_path / "advice.csv"
    run_script("advise.py", crossed_study, *options, "--out", out)
    rows = pd.read_csv(out)
    trained = rows["N0"] if masked else rows["N0"] * (1 - rows["rho"])
    known = np.isclose(rows["N0"].to_numpy()[:, None], [220e3, 450e3, 1020e3]).any(1)
    expected = 6 * trained * tokens + np.where(known, 0.0, 6 * rows["N0"] * base)
    assert rows["flops"].to_numpy() == pytest.approx(expected.to_numpy())
    assert known.any() and not known.all()


def test_the_laws_know_neither_the_study_nor_its_costs():
    code = (
        "import sys, pkgutil, importlib, p2law.laws as room;"
        "found = pkgutil.walk_packages(room.__path__, 'p2law.laws.');"
        "[importlib.import_module(module.name) for module in found];"
        "print([m for m in sys.modules if m.startswith(('p2law.study', 'p2law.cluster',"
        " 'p2law.pruning', 'torch'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
