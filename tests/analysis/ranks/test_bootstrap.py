"""The bootstrap: weights against copied rows, intervals where they are owed and nowhere else, coverage."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from robustgap.analysis.models.design import codes
from robustgap.analysis.ranks import bootstrap as inference
from robustgap.analysis.ranks import discordance as inversions
from robustgap.analysis.ranks.bootstrap import Bootstrap, concordance, interval, mean, untied_weight, weighted_tau
from robustgap.analysis.statistics.correlations import correlations, tau


def copied_tau(x, y, copies) -> tuple[float, float]:
    """tau-b and tau-a over explicit copies of rows, pairs of copies of one row left out."""
    rows = [(place, x[place], y[place]) for place, count in enumerate(copies) for _ in range(count)]
    pairs = [(p, q) for i, p in enumerate(rows) for q in rows[:i] if p[0] != q[0]]
    sx = np.array([np.sign(p[1] - q[1]) for p, q in pairs])
    sy = np.array([np.sign(p[2] - q[2]) for p, q in pairs])
    untied_pairs = np.abs(sx).sum() * np.abs(sy).sum()
    if untied_pairs == 0:
        return np.nan, np.nan
    return (sx * sy).sum() / np.sqrt(untied_pairs), (sx * sy).sum() / len(pairs)


@pytest.mark.parametrize("merging", [True, False])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_weighted_tau_equals_explicit_replication(merging, data):
    n = data.draw(st.integers(2, 9))
    numbers = st.lists(st.integers(0, 3).map(float), min_size=n, max_size=n)
    x, y = np.array(data.draw(numbers)), np.array(data.draw(numbers))
    block = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    weights = np.array(data.draw(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=2, max_size=2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "by_merging", lambda rows, blocks, draws: merging)
        found = weighted_tau(x, y, block, weights.astype(float))
    for draw, weight in enumerate(weights):
        np.testing.assert_allclose(found[:, draw], copied_tau(x, y, weight[block]), rtol=1e-12)


def test_pairs_are_held_in_parts_without_changing_anything(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (2, 50))
    block = np.sort(rng.integers(0, 6, 50))
    block = np.unique(block, return_inverse=True)[1]
    whole = concordance(x, y, block)
    member = block == np.unique(block)[:, None]
    signs = np.sign(np.subtract.outer(x, x)) * np.sign(np.subtract.outer(y, y))
    np.testing.assert_array_equal(whole, member @ signs @ member.T)
    monkeypatch.setattr("robustgap.analysis.ranks.bootstrap.ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(concordance(x, y, block), whole)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_discordant_pairs_are_those_that_a_loop_counts(data):
    n = data.draw(st.integers(0, 30))
    numbers = st.lists(st.integers(0, 5), min_size=n, max_size=n)
    x, y, block = (np.array(data.draw(numbers), dtype=int) for _ in range(3))
    weights = np.array(data.draw(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=3, max_size=3)))
    pairs = [(i, j) for i in range(n) for j in range(i) if (x[i] - x[j]) * (y[i] - y[j]) < 0]
    counted = [sum(weight[block[i]] * weight[block[j]] for i, j in pairs) for weight in weights]
    assert inversions.discordant(x, y, block, weights.astype(float)).tolist() == counted
    halves = inversions.discordant(x, y, block, weights / 2)  # weights that are not whole are summed as they are
    np.testing.assert_allclose(halves, np.array(counted) / 4)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_agreement_of_each_row_is_what_a_loop_counts(rows):
    counted = [sum(np.sign(a - c) * np.sign(b - d) for c, d in rows) for a, b in rows]
    x, y = np.array(rows, dtype=float).reshape(-1, 2).T
    assert inversions.agreement(x, y).tolist() == counted


def test_agreement_of_many_rows_needs_no_matrix_of_pairs():
    x, y = np.random.default_rng(0).standard_normal((2, 50_000))
    tracemalloc.start()
    found = inversions.agreement(x, y).sum() / (50_000 * 49_999)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert found == pytest.approx(kendalltau(x, y).statistic)


def test_many_rows_are_merged_few_are_compared_and_both_agree(monkeypatch):
    rng = np.random.default_rng(2)
    assert inference.by_merging(20_000, 10_000, 2001) and not inference.by_merging(1344, 672, 2001)
    x, y = rng.integers(0, 50, (2, 300)).astype(float)
    block, weights = np.arange(300) // 3, Bootstrap(40, 1).weights(np.zeros(100), "tau")
    compared = weighted_tau(x, y, block, weights)
    monkeypatch.setattr(inversions, "NUMBERS_AT_ONCE", 700)
    monkeypatch.setattr(inference, "NUMBERS_AT_ONCE", 90)
    np.testing.assert_array_equal(weighted_tau(x, y, block, weights), compared)
    monkeypatch.setattr(inference, "by_merging", lambda rows, blocks, draws: True)
    np.testing.assert_array_equal(weighted_tau(x, y, block, weights), compared)
    assert compared[0, 0] == pytest.approx(kendalltau(x, y).statistic)


def test_untied_pairs_of_a_constant_and_of_distinct_values():
    block, weights = np.array([0, 0, 1]), np.array([[1.0, 1.0], [2.0, 0.0], [1.0, 3.0]])
    assert untied_weight(np.array([5.0, 5.0, 5.0]), block, weights).tolist() == [0, 0, 0]
    assert untied_weight(np.arange(3), block, weights).tolist() == [3, 4, 7]


def test_weights_draw_within_strata_and_do_not_depend_on_other_purposes():
    strata = np.array(["x", "y", "x", "y", "y"])
    weights = Bootstrap(draws=300, seed=4).weights(strata, "pi a")
    assert weights[0].tolist() == [1] * 5
    assert (weights[:, strata == "x"].sum(axis=1) == 2).all() and (weights[:, strata == "y"].sum(axis=1) == 3).all()
    np.testing.assert_array_equal(Bootstrap(300, 4).weights(strata, "pi a"), weights)
    assert (Bootstrap(300, 4).weights(strata, "pi b") != weights).any()
    alone = Bootstrap(300, 4).weights(np.array(["x", "x"]), "pi a")
    np.testing.assert_array_equal(alone, weights[:, strata == "x"])


def test_interval_is_given_only_where_it_is_owed():
    draws = np.concatenate([[0.5], np.linspace(0, 1, 201)])
    assert interval(draws, 3) == pytest.approx((0.5, 0.025, 0.975))
    assert np.isnan(interval(draws, 2)[1:]).all()
    assert np.isnan(interval(np.concatenate([[np.nan], draws]), 9)).all()
    half = np.concatenate([[0.5], np.where(np.arange(200) < 100, np.nan, 0.5)])
    assert np.isnan(interval(half, 9)[1:]).all()
    assert interval(np.array([0.5]), 9)[0] == 0.5 and np.isnan(interval(np.array([0.5]), 9)[1])
    assert mean(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()[:1] == [2.0]


def grid(values: int, seeds: int, rng: np.random.Generator) -> pd.DataFrame:
    """A design of 2 x `values` configurations, `seeds` seeds; gap and measure: independent configuration + seed."""
    cells = pd.MultiIndex.from_product([["p", "q"], range(values), range(seeds)], names=["a", "b", "seed"])
    table = cells.to_frame(index=False)
    configuration = codes(table, ["a", "b"])
    for name in ("gap", "m"):
        table[name] = rng.standard_normal(2 * values)[configuration] + 0.1 * rng.standard_normal(len(table))
    return table


def test_seeds_of_a_configuration_stay_together():
    """With eight nearly equal seeds, resampling models instead of configurations would halve the interval."""
    rng = np.random.default_rng(0)
    table = grid(10, 8, rng)
    options = {"outcome": "gap", "measures": ["m"], "seed_column": "seed", "draws": 400}
    together = correlations(table, axes=["a", "b"], **options).iloc[0]
    table["each"] = np.arange(len(table))
    apart = correlations(table, axes=["each"], **{**options, "seed_column": None}).iloc[0]
    assert together["high"] - together["low"] > 1.5 * (apart["high"] - apart["low"])


def test_null_intervals_cover_zero_about_as_often_as_they_say():
    rng, covered = np.random.default_rng(1), 0
    for trial in range(200):
        (row,) = tau(grid(12, 2, rng), ["a", "b"], "gap", ["m"], Bootstrap(200, trial), names=["tau"])
        covered += row["low"] <= 0 <= row["high"]
    assert 0.90 <= covered / 200 <= 0.99


def test_fewer_than_three_configurations_give_no_interval():
    table = pd.DataFrame({"a": list("xxyy"), "seed": [0, 1, 0, 1], "gap": [1.0, 2, 3, 4], "m": [1.0, 3, 2, 4]})
    found = correlations(table, axes=["a"], outcome="gap", measures=["m"], seed_column="seed", draws=50)
    assert found.loc[0, "estimate"] == pytest.approx(2 / 3)
    assert found["low"].isna().all() and found["high"].isna().all()
