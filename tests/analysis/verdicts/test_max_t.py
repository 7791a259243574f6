"""Influences, standard errors and families of statements against closed forms, loops, SciPy and simulation."""

import itertools
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robustgap.analysis.ranks.bootstrap import weighted_tau
from robustgap.analysis.ranks.influence import (
    FEWEST_FREE,
    interactions,
    level_codes,
    outcome_reliability,
    settings_basis,
    standard_error,
    t_interval,
    tau_influence,
    tau_of_expected,
)
from robustgap.analysis.verdicts.max_t import adjusted, benjamini_hochberg, critical, z_values

numbers = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=4, max_size=20)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(numbers)
def test_tau_is_scipys_and_the_influence_is_its_derivative_with_ties(rows):
    x, y, block = np.array(rows).T
    block = np.unique(block, return_inverse=True)[1]
    tau, influence = tau_influence(x.astype(float), y.astype(float), block)
    assert tau == pytest.approx(stats.kendalltau(x, y).statistic, nan_ok=True)
    if np.isnan(tau):
        assert np.isnan(influence).all()
        return
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    alone = np.arange(
        len(x)
    )  # each row its own block: then multiplicities of rows are weights, without copies of pairs
    _, single = tau_influence(x.astype(float), y.astype(float), alone)
    np.testing.assert_allclose(influence, np.bincount(block, single), atol=1e-12)
    step = 1e-4
    for row in range(len(x)):
        weights = np.ones((2, len(x)))
        weights[:, row] += [-step, step]
        low, high = weighted_tau(x.astype(float), y.astype(float), alone, weights)[0]
        assert single[row] == pytest.approx((high - low) / (2 * step), abs=1e-4)


def design(*sizes: int) -> np.ndarray:
    return np.stack([part.ravel() for part in np.indices(sizes)], axis=1)


@pytest.mark.parametrize(
    ("sizes", "rank"),
    [
        ((4, 4, 2, 2), 55),  # constant, main effects, two-way and three-way interactions: 1 + 8 + 22 + 24
        ((3, 2, 2, 2), 15),  # three-way interactions would leave 2 degrees of freedom
        ((4, 2, 2), 6),  # two-way interactions would leave 3
        ((2, 2, 2), 1),  # main effects would leave 4
    ],
)
def test_interactions_are_taken_as_far_as_the_configurations_allow(sizes, rank):
    basis = settings_basis(design(*sizes))
    assert basis.shape == (np.prod(sizes), rank)
    assert rank == 1 or len(basis) - rank >= FEWEST_FREE
    np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-12)
    np.testing.assert_allclose(basis @ (basis.T @ np.ones(len(basis))), 1)


def test_interactions_are_products_of_indicators_and_empty_ones_are_left_out():
    levels = level_codes(pd.DataFrame({"a": ["x", "y", "z", "x"], "b": ["1", "1", "2", "2"]}))
    np.testing.assert_array_equal(interactions(levels, 1), [[0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(interactions(levels, 2), [[0], [0], [1], [0]])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.integers(1, 3)] * 3), min_size=1, max_size=20))
def test_interactions_equal_all_products_of_indicators(rows):
    levels = np.array(rows)
    for order in (1, 2, 3):
        wanted = []
        for axes in itertools.combinations(range(3), order):
            for values in itertools.product(*(np.unique(levels[:, axis])[1:] for axis in axes)):
                wanted.append((levels[:, axes] == values).all(axis=1))
        wanted = [column for column in wanted if column.any()]
        np.testing.assert_array_equal(interactions(levels, order), np.array(wanted).T.reshape(len(rows), len(wanted)))


def test_axes_of_many_values_fit_into_memory():
    """A random search: 1,000 values of two axes would have 998,001 products of indicators, 8 GB of them."""
    levels = np.random.default_rng(0).permuted(np.tile(np.arange(1000), (2, 1)), axis=1).T
    tracemalloc.start()
    assert interactions(levels, 2).shape[1] >= 998
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_the_standard_error_is_that_of_least_squares_and_has_a_floor():
    rng = np.random.default_rng(0)
    basis, influence = settings_basis(design(4, 4, 2)), rng.standard_normal(32)
    left, se, free = standard_error(influence, basis)
    assert free == 32 - basis.shape[1]
    assert se**2 == pytest.approx(32 * (left @ left) / free)
    np.testing.assert_allclose(basis.T @ left, 0, atol=1e-12)
    assert standard_error(basis[:, 1], basis)[1] == 1 / 32
    assert np.isnan(standard_error(influence[:6], settings_basis(design(3, 2)))[1])
    low, high = t_interval(1.0, se, free, stats.norm.isf(0.025))
    assert (high - 1) / se == pytest.approx(stats.t.ppf(0.975, free)) == pytest.approx((1 - low) / se)


def test_tau_of_expected_outcomes_is_recovered_from_noisy_ones():
    rng = np.random.default_rng(1)
    expected, own = rng.standard_normal((2, 20000))
    measure, se = expected + own, 0.8
    noisy = expected + se * rng.standard_normal(20000)
    reliable = outcome_reliability(noisy, np.full(20000, se))
    assert reliable == pytest.approx(1 / (1 + se**2), abs=0.02)
    found = tau_of_expected(stats.kendalltau(measure, noisy).statistic, reliable)
    assert found == pytest.approx(stats.kendalltau(measure, expected).statistic, abs=0.02)
    assert outcome_reliability(noisy, None) == outcome_reliability(np.ones(3), np.ones(3)) == 1
    assert tau_of_expected(0.3, 1.0) == pytest.approx(0.3) and tau_of_expected(-0.9, 0.25) == -1


def test_z_values_are_as_far_out_as_t_values():
    z = z_values(np.array([2.0, -2, 0, 1, 5]), np.array([1, 1, 1, 0, np.nan]), np.array([6, 6, 6, 6, 6]))
    assert stats.norm.sf(z[0]) == pytest.approx(stats.t.sf(2, 6)) and z[1] == -z[0] and z[2] == 0
    assert np.isnan(z[3:]).all()


def test_max_t_equals_sidak_for_independent_and_one_statement_for_equal_ones():
    alone = stats.norm.isf(0.025)
    assert critical(np.ones((9, 1))) == pytest.approx(alone)
    assert critical(np.ones((9, 1)), two_sided=False) == pytest.approx(stats.norm.isf(0.05))
    same = np.random.default_rng(0).standard_normal((50, 1)) * [1, 2, -3]
    assert critical(same) == pytest.approx(alone, abs=0.1)
    independent = critical(np.eye(8), draws=20000)
    assert independent == pytest.approx(stats.norm.isf((1 - 0.95 ** (1 / 8)) / 2), abs=0.03)
    assert critical(np.c_[np.eye(8), np.zeros((8, 5))], draws=20000) == independent, "undefined ones do not count"


def test_adjusted_p_values_agree_with_the_critical_value():
    parts, z = np.eye(8), np.array([3.5, -2.5, 0.1, np.nan, 2.0, 1, 1, 1])
    p = adjusted(z, parts)
    assert np.isnan(p[3]) and (np.diff(p[np.argsort(-np.abs(z))][:7]) >= 0).all()
    assert ((p < 0.05) == (np.abs(z) > critical(parts)))[~np.isnan(z)].all()
    assert p[1] == pytest.approx(1 - (1 - 2 * stats.norm.sf(2.5)) ** 8, abs=0.02)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_equals_scipy(p):
    np.testing.assert_allclose(benjamini_hochberg(np.array(p)), stats.false_discovery_control(p), atol=1e-12)
    with_missing = benjamini_hochberg(np.array([np.nan, *p]))
    assert np.isnan(with_missing[0])
    np.testing.assert_allclose(with_missing[1:], stats.false_discovery_control(p), atol=1e-12)
