"""Partial Kendall correlation and Spearman's rho against their definitions, SciPy, and what they are for."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, rankdata, spearmanr

from robustgap.analysis.ranks.bootstrap import Bootstrap
from robustgap.analysis.ranks.spearman import weighted_spearman
from robustgap.analysis.statistics.correlations import RESULT, correlations, spearman
from robustgap.analysis.statistics.partial import partial_correlations


@st.composite
def tables(draw) -> pd.DataFrame:
    """Up to 30 models with ties and missing values in measure and column."""
    n = draw(st.integers(0, 30))
    small = st.integers(-2, 2).map(float)
    holes = st.one_of(small, st.just(np.nan))
    table = {
        name: draw(st.lists(values, min_size=n, max_size=n))
        for name, values in zip("ymz", (small, holes, holes), strict=True)
    }
    return pd.DataFrame({"a": draw(st.lists(st.sampled_from("pqr"), min_size=n, max_size=n)), **table})


def scipy_tau(x: np.ndarray, y: np.ndarray) -> float:
    return kendalltau(x, y).statistic if len(x) > 1 else np.nan


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tables())
def test_partial_tau_equals_its_definition_from_scipys_coefficients(table):
    found = partial_correlations(table, axes=["a"], outcome="y", measures=["m", "z"], given=["z"], draws=0)
    assert list(found.columns) == RESULT and found["measure"].tolist() == ["m"]
    row, both = found.iloc[0], table.dropna()
    xy, xz, yz = (scipy_tau(both[p], both[q]) for p, q in ("my", "mz", "yz"))
    room = (1 - xz**2) * (1 - yz**2)
    wanted = (xy - xz * yz) / np.sqrt(room) if room > 1e-9 else np.nan
    assert row["estimate"] == pytest.approx(wanted, nan_ok=True)
    assert (row["n"], row["undefined"]) == (len(both), int(np.isnan(wanted)))
    assert (row["statistic"], row["given_axis"]) == ("partial_tau", "z")


def test_a_measure_that_only_repeats_the_column_has_nothing_left():
    rng = np.random.default_rng(0)
    z = rng.standard_normal(300)
    table = pd.DataFrame({"a": np.arange(300), "y": z + rng.standard_normal(300), "z": z})
    table["echo"], table["more"] = z + rng.standard_normal(300), table["y"] + rng.standard_normal(300)
    found = partial_correlations(table, axes=["a"], outcome="y", measures=["echo", "more"], given=["z"], draws=300)
    echo, more = found.to_dict("records")
    assert correlations(table, axes=["a"], outcome="y", measures=["echo"], seed_column=None, draws=300)["low"][0] > 0.2
    assert abs(echo["estimate"]) < 0.15 and more["low"] > 0.3
    assert found["low"].lt(found["estimate"]).all() and found["high"].gt(found["estimate"]).all()


def test_an_interval_of_partial_tau_is_made_of_the_three_coefficients_of_each_draw():
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.standard_normal((12, 3)), columns=["y", "m", "z"]).assign(a=np.arange(12) // 2)
    row = partial_correlations(table, axes=["a"], outcome="y", measures=["m"], given=["z"], draws=60).iloc[0]
    drawn = []
    for weight in Bootstrap(60).weights(np.zeros(6), "tau")[1:]:
        pairs = np.triu_indices(12, 1)
        w = np.outer(weight[table["a"]], weight[table["a"]])[pairs]
        signs = {name: np.sign(np.subtract.outer(*[table[name].to_numpy()] * 2))[pairs] for name in "ymz"}
        xy, xz, yz = ((w * signs[p] * signs[q]).sum() / w.sum() for p, q in ("my", "mz", "yz"))
        drawn.append((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tables())
def test_spearman_equals_scipy_with_ties_and_missing_values(table):
    (row,) = spearman(table, [], "y", ["m"], Bootstrap(0))
    both = table[["m", "y"]].dropna()
    defined = both.nunique().min() > 1 if len(both) else False
    wanted = spearmanr(both["m"], both["y"]).statistic if defined else np.nan
    assert row["estimate"] == pytest.approx(wanted, nan_ok=True, abs=1e-12)
    assert (row["statistic"], row["n"], row["undefined"]) == ("spearman", len(both), int(not defined))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_weighted_spearman_is_that_of_copied_rows(data):
    n = data.draw(st.integers(2, 12))
    x, y = (np.array(data.draw(st.lists(st.integers(0, 3).map(float), min_size=n, max_size=n))) for _ in range(2))
    block = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    weights = np.array(data.draw(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=2, max_size=3)))
    found = weighted_spearman(x, y, block, weights.astype(float))
    for rho, weight in zip(found, weights, strict=True):
        r, s = (rankdata(np.repeat(values, weight[block])) for values in (x, y))
        defined = len(set(r)) > 1 and len(set(s)) > 1
        assert rho == pytest.approx(np.corrcoef(r, s)[0, 1] if defined else np.nan, nan_ok=True, abs=1e-12)
    np.testing.assert_allclose(weighted_spearman(x, y, block, weights / 2), found, atol=1e-12)


def test_draws_are_ranked_in_parts_without_changing_anything(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (2, 40)).astype(float)
    weights = Bootstrap(30).weights(np.zeros(20), "tau")
    whole = weighted_spearman(x, y, np.arange(40) // 2, weights)
    monkeypatch.setattr("robustgap.analysis.ranks.spearman.NUMBERS_AT_ONCE", 100)
    np.testing.assert_array_equal(weighted_spearman(x, y, np.arange(40) // 2, weights), whole)
