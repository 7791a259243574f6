"""Threshold conditioning and the Simpson check: definitions, and tables whose answer is known."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from robustgap.analysis.statistics.correlations import correlations
from robustgap.analysis.statistics.simpson import RESULT as SIMPSON
from robustgap.analysis.statistics.simpson import simpson
from robustgap.analysis.statistics.thresholds import RESULT, cuts, thresholds

AXES = ["a", "checkpoint"]


@st.composite
def tables(draw) -> pd.DataFrame:
    """Up to 30 models of a 5 x 2-checkpoint x 3-seed design with rows missing, ties and missing values."""
    cells = list(itertools.product("vwxyz", ["last", "best"], ["0", "1", "2"]))
    kept = draw(st.lists(st.sampled_from(cells), min_size=1, max_size=30, unique=True))
    table = pd.DataFrame(kept, columns=[*AXES, "seed"])
    small = st.integers(-2, 2).map(float)
    for name, values in (
        ("gap", small),
        ("m", st.one_of(small, st.just(np.nan))),
        ("c", st.one_of(small, st.just(np.nan))),
    ):
        table[name] = draw(st.lists(values, min_size=len(kept), max_size=len(kept)))
    return table


def plain_tau(part: pd.DataFrame) -> float:
    both = part[["m", "gap"]].dropna()
    return kendalltau(both["m"], both["gap"]).statistic if len(both) > 1 else np.nan


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tables())
def test_each_row_is_tau_among_the_models_at_most_at_its_threshold(table):
    found = thresholds(table, axes=AXES, outcome="gap", measures=["m"], column="c", within="a", draws=0)
    assert list(found.columns) == RESULT
    values = ["", *sorted(set(table["a"]))] if table["c"].notna().any() else []
    assert list(dict.fromkeys(found["value"])) == values
    for row in found.to_dict("records"):
        kept = table[(table["c"] <= row["threshold"]) & ((table["a"] == row["value"]) | (row["value"] == ""))]
        wanted = plain_tau(kept)
        assert row["estimate"] == pytest.approx(wanted, nan_ok=True)
        assert (row["n"], row["undefined"]) == (kept["m"].notna().sum(), int(np.isnan(wanted)))
        known = table["c"].dropna()
        assert row["threshold"] in set(known) and (known <= row["threshold"]).mean() >= row["quantile"] - 1e-9


def design(seed: int = 0) -> pd.DataFrame:
    levels = itertools.product("xyz", range(10), ["last", "best"], "01")
    table = pd.DataFrame(levels, columns=["a", "b", "checkpoint", "seed"])
    rng = np.random.default_rng(seed)
    return table.assign(gap=rng.standard_normal(len(table)), c=rng.standard_normal(len(table)))


def test_the_last_threshold_is_tau_and_pi_with_their_intervals():
    table = design().assign(m=lambda frame: frame["gap"] + np.random.default_rng(1).standard_normal(120))
    foreign = pd.DataFrame(
        {**dict.fromkeys(["a", "b", "checkpoint", "seed"], "NA"), "gap": [1.0, 2], "c": 0.0, "m": 1.0}
    )
    table = pd.concat([table, foreign])
    axes = ["a", "b", "checkpoint"]
    options = {"axes": axes, "outcome": "gap", "measures": ["m"], "draws": 100}
    whole = correlations(table, seed_column="seed", **options)
    for axis in axes:
        found = thresholds(table, column="c", within=axis, **options)
        last = found[found["quantile"] == 1]
        wanted = whole[
            (whole["statistic"] == "tau")
            | (whole["statistic"] == "pi") & (whole["axis"] == axis) & (whole["value"] != "")
        ]
        numbers = ["estimate", "low", "high", "n"]
        np.testing.assert_array_equal(last[numbers].to_numpy(float), wanted[numbers].to_numpy(float))


def test_a_measure_that_works_below_a_threshold_and_fails_above_shows():
    table = design(2).assign(m=lambda frame: np.where(frame["c"] < 0, frame["gap"], -frame["gap"]))
    found = thresholds(table, axes=["a", "b", "checkpoint"], outcome="gap", measures=["m"], column="c", draws=200)
    assert found["n"].is_monotonic_increasing and found["n"].iloc[-1] == len(table)
    assert found["estimate"].iloc[:4].tolist() == [1, 1, 1, 1] and abs(found["estimate"].iloc[-1]) < 0.25
    assert found["low"].iloc[-1] < 0 < found["high"].iloc[-1]


def test_equal_cuts_are_given_once_and_a_column_without_values_has_none():
    assert cuts(np.array([1.0, 1, 1, 2, np.nan]), (0.25, 0.5, 0.75, 1)) == [(0.75, 1.0), (1, 2.0)]
    assert cuts(np.array([np.nan]), (0.5, 1)) == []


def paradox(shift: float) -> pd.DataFrame:
    """Within each of three values of axis a the measure falls with the gap; between the values both rise."""
    rng = np.random.default_rng(0)
    levels = itertools.product(range(3), range(12), ["last", "best"])
    table = pd.DataFrame(levels, columns=["a", "b", "checkpoint"])
    inside = rng.standard_normal(len(table))
    table = table.assign(gap=shift * table["a"] + inside, m=shift * table["a"] - inside)
    return table.assign(a=table["a"].map("xyz".__getitem__), b=table["b"].map(str))


def test_a_paradox_is_flagged_with_both_intervals_and_an_honest_measure_is_not():
    options = {"axes": ["a", "b", "checkpoint"], "outcome": "gap", "measures": ["m"], "seed_column": None, "draws": 300}
    found = simpson(correlations(paradox(10.0), **options))
    assert list(found.columns) == SIMPSON
    rows = found[found["axis"] == "a"]
    assert rows["value"].tolist() == ["", "x", "y", "z"]
    assert rows["reversed"].all() and rows["resolved"].all() and rows["values"].tolist() == [3, 1, 1, 1]
    assert (rows["high"] < 0).all() and (rows["pooled_low"] > 0).all() and (rows["pooled_n"] == 72).all()
    others = found[found["axis"] != "a"]
    assert not others["resolved"].any() and not others["reversed"].any() and (others["values"] == 0).all()
    honest = simpson(correlations(paradox(0.0), **options))
    assert not honest["reversed"].any()


def test_what_is_undefined_is_not_reversed():
    table = paradox(10.0).assign(k=1.0)
    found = correlations(table, axes=["a"], outcome="gap", measures=["k", "m"], seed_column="b", draws=0)
    checked = simpson(found)
    assert not checked.loc[checked["measure"] == "k", "reversed"].any()
    rows = checked[checked["measure"] == "m"]
    assert rows["reversed"].all() and not rows["resolved"].any(), "no draws, no intervals"
    signs = np.sign(rows["estimate"]) * np.sign(rows["pooled"])
    assert (signs == -1).all()
