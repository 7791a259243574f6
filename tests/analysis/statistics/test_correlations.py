"""tau, psi and pi against their definitions written out as loops, and against SciPy."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.cells import cell_taus
from robustgap.analysis.statistics.correlations import RESULT, correlations

AXES = ["a", "b", "checkpoint"]


def sign(value: float) -> int:
    return (value > 0) - (value < 0)


def brute_tau(x, y) -> tuple[float, float]:
    """tau-b and tau-a by counting pairs of rows that have both numbers; NaN where one is constant."""
    rows = [(float(p), float(q)) for p, q in zip(x, y, strict=True) if not (np.isnan(p) or np.isnan(q))]
    pairs = [(sign(p[0] - q[0]), sign(p[1] - q[1])) for p, q in itertools.combinations(rows, 2)]
    both, left, right = sum(s * t for s, t in pairs), sum(s != 0 for s, _ in pairs), sum(t != 0 for _, t in pairs)
    return (both / np.sqrt(left * right), both / len(pairs)) if left and right else (np.nan, np.nan)


def average(values) -> tuple[float, int, int]:
    """Mean of the defined values (NaN where there is none), how many are defined, how many are not."""
    defined = [value for value in values if not np.isnan(value)]
    return (float(np.mean(defined)) if defined else np.nan), len(defined), len(values) - len(defined)


def look(found: pd.DataFrame, statistic: str, **where: str) -> dict:
    """The one row of a statistic, with the key given in `where` and otherwise empty."""
    key = {"axis": "", "value": "", "given_axis": "", "given_value": "", "statistic": statistic} | where
    rows = [row for row in found.to_dict("records") if all(row[name] == wanted for name, wanted in key.items())]
    assert len(rows) == 1
    return rows[0]


def same(row: dict, estimate: float, n: int, undefined: int) -> None:
    assert row["estimate"] == pytest.approx(estimate, nan_ok=True)
    assert (row["n"], row["undefined"]) == (n, undefined)


@st.composite
def tables(draw) -> pd.DataFrame:
    """Up to 24 models of a 3 x 2 x 2-checkpoint x 2-seed design with rows missing, ties, NA and missing values."""
    cells = list(itertools.product(["x", "y", "NA"], ["1", "2"], ["last", "best"], ["0", "1"]))
    kept = draw(st.lists(st.sampled_from(cells), min_size=1, max_size=24, unique=True))
    table = pd.DataFrame(kept, columns=[*AXES, "seed"])
    small = st.integers(-2, 2).map(float)
    table["gap"] = draw(st.lists(small, min_size=len(kept), max_size=len(kept)))
    table["m"] = draw(st.lists(st.one_of(small, st.just(np.nan)), min_size=len(kept), max_size=len(kept)))
    return table


def run(table: pd.DataFrame, **options) -> pd.DataFrame:
    return correlations(
        table, **{"axes": AXES, "outcome": "gap", "measures": ["m"], "seed_column": "seed", "draws": 0, **options}
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(tables())
def test_all_statistics_equal_their_definitions(table):
    found = run(table)
    assert list(found.columns) == RESULT
    both = table[table["m"].notna()]
    tau_b, tau_a = brute_tau(table["m"], table["gap"])
    same(look(found, "tau"), tau_b, len(both), int(np.isnan(tau_b)))
    same(look(found, "tau_a"), tau_a, len(both), int(np.isnan(tau_b)))
    for axis in AXES:
        others = [other for other in AXES if other != axis]
        cells = [(key, brute_tau(cell["m"], cell["gap"])[0]) for key, cell in table.groupby([*others, "seed"])]
        same(look(found, "psi", axis=axis), *average([value for _, value in cells]))
        for place, other in enumerate(others):
            for given_value in table[other].unique():
                detail = average([value for key, value in cells if key[place] == given_value])
                same(look(found, "psi", axis=axis, given_axis=other, given_value=given_value), *detail)
        values, used = {}, 0
        for value, group in table.groupby(axis):
            values[value] = brute_tau(group["m"], group["gap"])[0]
            n = int(group["m"].notna().sum())
            used += n * (not np.isnan(values[value]))
            same(look(found, "pi", axis=axis, value=value), values[value], n, int(np.isnan(values[value])))
        estimate, _, undefined = average(list(values.values()))
        same(look(found, "pi", axis=axis), estimate, used, undefined)


def test_tau_b_equals_scipy_with_ties_and_missing_values():
    rng = np.random.default_rng(3)
    for n in (2, 7, 200):
        x, y = rng.integers(0, 1 + n // 2, (2, n)).astype(float)
        x[0], y[0] = -1, -1
        x[rng.random(n) < 0.2 * (n > 10)] = np.nan
        table = pd.DataFrame({"a": rng.choice(["u", "v"], n), "gap": y, "m": x})
        kept = ~np.isnan(x)
        row = look(run(table, axes=["a"], seed_column=None), "tau")
        assert row["estimate"] == pytest.approx(kendalltau(x[kept], y[kept]).statistic)
        assert row["n"] == kept.sum()


def test_cells_are_compared_in_parts_without_changing_anything(monkeypatch):
    rng = np.random.default_rng(0)
    cell, y, x = rng.integers(0, 40, 200), rng.integers(0, 5, 200) * 1.0, rng.integers(0, 5, (200, 3)) * 1.0
    cell = np.unique(cell, return_inverse=True)[1]
    x[rng.random(x.shape) < 0.1] = np.nan
    whole = cell_taus(cell, y, x)
    monkeypatch.setattr("robustgap.analysis.ranks.cells.PAIRS_AT_ONCE", 1)
    np.testing.assert_array_equal(cell_taus(cell, y, x), whole)
    monkeypatch.setattr("robustgap.analysis.ranks.cells.MANY_MODELS", 4)
    np.testing.assert_allclose(cell_taus(cell, y, x), whole, rtol=1e-12)


def design(seed: int = 0, values: int = 4) -> pd.DataFrame:
    """`values` x 2 x 2 checkpoints x 2 seeds; the gap is 10 per step of axis a, plus noise of SD 1."""
    rng = np.random.default_rng(seed)
    levels = itertools.product(map(str, range(values)), "01", ["last", "best"], "01")
    table = pd.DataFrame(levels, columns=[*AXES, "seed"])
    return table.assign(gap=10 * table["a"].astype(float) + rng.standard_normal(len(table)))


def test_a_proxy_of_one_axis_fools_tau_but_not_psi_of_the_others():
    table = design(values=24)
    table = table.assign(m=table["a"].astype(float))
    found = run(table, draws=200)
    assert look(found, "tau")["low"] > 0.7
    assert look(found, "psi", axis="a")["estimate"] == 1
    for axis in ("b", "checkpoint"):
        row = look(found, "psi", axis=axis)
        assert np.isnan(row["estimate"]) and row["n"] == 0 and row["undefined"] > 0, "constant in every cell"
    noisy = table.assign(m=table["m"] + 0.01 * np.random.default_rng(1).standard_normal(len(table)))
    for axis in ("b", "checkpoint"):
        row = look(run(noisy, draws=500), "psi", axis=axis)
        assert row["low"] < 0 < row["high"] and abs(row["estimate"]) < 0.3


def test_pi_shows_a_measure_that_works_under_one_value_and_fails_under_another():
    table = design()
    table = table.assign(m=np.where(table["a"] == "2", -table["gap"], table["gap"]))
    found = run(table, draws=200)
    estimates = [look(found, "pi", axis="a", value=value)["estimate"] for value in "0123"]
    assert estimates == [1, 1, -1, 1]
    assert look(found, "pi", axis="a")["estimate"] == 0.5


def test_raw_values_without_sign_flips_and_any_monotone_transformation():
    table = design().assign(m=lambda frame: -frame["gap"])
    assert look(run(table), "tau")["estimate"] == -1
    table["m"] = np.exp(-table["gap"] / 10)
    assert look(run(table), "tau")["estimate"] == -1


def test_row_order_type_of_settings_and_models_without_outcome_do_not_matter():
    table = design(2).assign(m=np.random.default_rng(5).standard_normal(32))
    found = run(table, draws=50)
    numbers = table.assign(a=table["a"].astype(int), seed=table["seed"].astype(int))
    extra = pd.concat([numbers, numbers.iloc[:1].assign(gap=np.nan, a=9)])
    shuffled = extra.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(run(shuffled, draws=50), found)


def test_without_axes_only_tau_is_given():
    table = pd.DataFrame({"gap": [1.0, 2, 3, 4], "m": [1.0, 2, 4, 3]})
    found = run(table, axes=[], seed_column=None, draws=100)
    assert found["statistic"].tolist() == ["tau", "tau_a", "spearman"]
    assert found["estimate"].tolist() == pytest.approx([2 / 3, 2 / 3, 0.8])


def test_models_trained_elsewhere_count_in_tau_alone():
    table = design(3).assign(m=np.random.default_rng(5).standard_normal(32))
    foreign = pd.DataFrame({**dict.fromkeys([*AXES, "seed"], "NA"), "gap": [1.0, 2, 3], "m": [9.0, 8, 7]})
    both = pd.concat([table, foreign])
    alone, found = run(table, draws=50), run(both, draws=50)
    inside = found["statistic"].isin(["psi", "pi"])
    pd.testing.assert_frame_equal(found[inside], alone[inside])
    assert look(found, "tau")["estimate"] == pytest.approx(brute_tau(both["m"], both["gap"])[0])


def test_a_progress_bar_passes_everything_on_and_is_silent_off_a_terminal(capfd):
    assert list(bar(range(3), "tau")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")
