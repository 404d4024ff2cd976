"""Published optima on open tables: objective first, then the constants.

Chinchilla's points: Besiroglu et al. (arXiv 2404.10102), refitted to convergence. Sparsity law on
ViT and T5: Frantar et al. (arXiv 2309.08520). Overtraining: Gadre et al. (arXiv 2403.08540).
OLMo's ladder: Bhagia et al. (arXiv 2412.04403). The tables: benchmarks/public_tables.py.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from p2law.laws.fitting.fit import fit
from p2law.laws.forms import registry
from p2law.laws.judging.extrapolation import extrapolation, warnings
from p2law.laws.table import prepare

pytestmark = pytest.mark.tables
SLACK = 1 + 1e-6


def chinchilla(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "chinchilla.csv")
    table["N"] = table["Model Size"]
    table["D"] = table["Training FLOP"] / (6 * table["N"])
    return prepare(table.sort_values("loss").iloc[:-5])


def matches(constants: dict[str, float], printed: dict[str, str], units: float = 0.501) -> None:
    """Each constant lies within so many units of the last published digit."""
    for name, text in printed.items():
        digits = len(text.partition(".")[2])
        # Half a unit by rounding, and a hair for numbers printed at the half.
        assert abs(constants[name] - float(text)) <= units * 10**-digits, (name, constants[name])


def test_chinchilla_huber(public_tables):
    found = fit(registry.get("chinchilla"), chinchilla(public_tables), delta=1e-3)
    assert found.objective <= 0.001018274018 * SLACK
    matches(
        found.constants,
        {"A": "477.826", "B": "2143.417", "E": "1.81722", "alpha": ".34731", "beta": ".36717"},
    )
    assert found.converged and found.rank == 5 and found.starts_at_optimum == 1.0


def test_chinchilla_least_absolute_deviation(public_tables):
    found = fit(registry.get("chinchilla"), chinchilla(public_tables), objective="lad")
    assert found.objective <= 1.12949466 * SLACK
    matches(
        found.constants,
        {"A": "482.01", "B": "2085.43", "E": "1.8169", "alpha": ".34781", "beta": ".36585"},
        units=1,  # the published B is 2085.43, the optimum's 2085.436: see the certificate below
    )
    # A certificate of ours: the optimum of a sum of |r| in five constants interpolates five points,
    # and no linear program finds a way down. Every smoothed objective (Huber at 1e-3 to 1e-6) ends
    # higher, with B from 2065 to 2143.
    assert (np.abs(found.residuals) < 1e-9).sum() >= 5
    assert found.converged and found.gain < 1e-12


def test_frantar_vit(public_tables):
    table = pd.read_csv(public_tables / "frantar_vit.csv")
    table["rho"], table["loss"] = table["sparsity"], table["val-loss"]
    table["N"] = 12 * 12 * 768**2 * table["scale"] * (1 - table["rho"]) / 1e6
    table["D"] = table["total_examples"] / 1e9
    found = fit(registry.get("sparsity"), prepare(table), delta=1e-2, raw=True)
    assert found.objective / len(table) <= 4.929088e-4 * SLACK
    matches(
        found.constants,
        {"a": "1.3049", "b": ".8210", "c": "2.0751", "d": ".3922", "e": ".2782", "f": ".8898"},
    )
    # Published before convergence by 1e-9 of the objective: our lower optimum has 4.51664.
    matches(found.constants, {"g": "4.5167"}, units=1)


def test_frantar_t5_reaches_the_optimum_that_was_not_published(public_tables):
    table = pd.read_csv(public_tables / "frantar_t5.csv")
    table["rho"], table["loss"] = table["sparsity"], table["val-loss"]
    table["N"] = 24 * 12 * 768**2 * table["scale"] * (1 - table["rho"]) / 1e6
    table["D"] = table["steps"] / 1e5
    found = fit(registry.get("sparsity"), prepare(table), delta=1e-3)
    assert found.objective / len(table) <= 4.8801e-6 * (1 + 1e-5)  # printed to five digits
    assert found.objective / len(table) < 7.6036e-6
    matches(
        found.constants,
        {"a": ".4362", "b": "1.345", "c": "1.6952", "d": ".2317", "e": ".4176", "f": ".3846"},
    )
    matches(found.constants, {"g": ".8304"})


def gadre(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "gadre_models.csv")
    return table.assign(loss=table["loss_c4_val"])


def test_gadre_predicts_from_five_rows(public_tables):
    table = gadre(public_tables)
    table = table[table["dataset"] == "rpj"]
    # The paper's fit set: the four smallest configurations at M = 20 and the smallest at M = 320.
    small = ["d=96_l=8_h=4", "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8"]
    chosen = table[
        (table["model"].isin(small) & (table["cc_mult"] == 1.0))
        | ((table["model"] == small[0]) & (table["cc_mult"] == 16.0))
    ]
    assert len(chosen) == 5
    found = fit(registry.get("overtraining"), prepare(chosen), objective="least_squares", raw=True)
    targets = table[
        ((table["N"].between(1.3e9, 1.5e9)) & (table["cc_mult"] == 32.0))
        | ((table["N"] > 6e9) & (table["cc_mult"] == 1.0))
    ].sort_values("N")
    error = np.abs(found.predict(targets) / targets["loss"].to_numpy() - 1) * 100
    assert error == pytest.approx([0.7103, 0.7320], abs=5.1e-5)


def test_olmo_fits_well_and_extrapolates_badly(public_tables):
    table = pd.read_csv(public_tables / "olmo_ladder_c4.csv").rename(
        columns={"c4_loss_mean_last5": "loss"}
    )
    found = fit(registry.get("chinchilla"), prepare(table), delta=1e-3)
    assert np.abs(np.expm1(found.residuals)).mean() * 100 == pytest.approx(0.2473, abs=5.1e-5)
    # OLMo-2 13B: 13,202,396,160 parameters with embeddings, 5e12 tokens; measured 2.437876.
    target = pd.DataFrame({"run": ["13B-5T"], "N": [13_202_396_160.0], "D": [5e12]})
    predicted = float(found.predict(target)[0])
    assert predicted == pytest.approx(2.34439, abs=5.1e-6)
    assert 100 * (predicted / 2.437876 - 1) == pytest.approx(-3.83, abs=0.006)
    # The tool says so beforehand: the longer half of the runs is missed 4 times worse than the fit.
    # (Its two smaller sizes do not determine the law, so there is no such check in N.)
    check = extrapolation(registry.get("chinchilla"), prepare(table), 0.002473, delta=1e-3)
    assert check["D"]["times_fitted_error"] == pytest.approx(3.9, abs=0.1)
    assert set(check) == {"D"}
    assert warnings(check)[0].startswith("extrapolates badly: fitted below D")
    # Chinchilla's own table, as well fitted, passes.
    kept = extrapolation(registry.get("chinchilla"), chinchilla(public_tables), 0.0047, delta=1e-3)
    assert warnings(kept) == []
