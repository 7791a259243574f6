"""What out-of-fold prediction is made of, against scikit-learn, SciPy and loops: folds, ridge, residuals, designs."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import Ridge

from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.prediction.gain import fit_residuals, fits, gains, normal_scores, sum_error
from robustgap.analysis.prediction.increment_statements import increments
from robustgap.analysis.prediction.ladder_steps import best_pair
from robustgap.analysis.prediction.settings_regression import PENALTIES, Design, cv_folds, folds_of, make_design, ridge
from robustgap.analysis.statistics.increments import cluster_interval, ladder, quality, ratio_of_sums


def test_folds_keep_configurations_together_and_are_even():
    block = np.repeat(np.arange(24), 4)[np.random.default_rng(0).permutation(96)]
    fold = folds_of(block, 10, 0)
    assert all(len(np.unique(fold[block == one])) == 1 for one in range(24))
    assert set(np.unique(fold[np.unique(block, return_index=True)[1]], return_counts=True)[1]) == {2, 3}
    assert len(np.unique(folds_of(np.array([0, 0, 1]), 10, 0))) == 2


def test_every_configuration_is_left_out_up_to_a_hundred_and_dealt_beyond():
    (fold,) = cv_folds(100)
    assert fold.tolist() == list(range(100))
    deals, other = cv_folds(101), cv_folds(101, 1)
    assert len(deals) == 5 and len({tuple(fold) for fold in [*deals, *other]}) == 10
    assert all(set(np.unique(fold, return_counts=True)[1]) == {10, 11} for fold in deals)


def test_ridge_equals_scikit_learn_with_the_penalty_of_the_least_error_of_left_out_blocks():
    """Weights differ, a row of weight 0 is not seen, and a column that is constant among the rows that are seen, with
    weights whose sums are rounded, is no column."""
    rng = np.random.default_rng(4)  # the constant column has a spread of 1e-8 by rounding
    block = np.array([0] * 2 + [1] * 4 + [2, 3] * 3 + [4] * 2)
    x, y = rng.integers(0, 2, (14, 4)).astype(float), rng.standard_normal(14)
    x[:, 3] = block != 4
    weight = rng.integers(1, 5, (3, 14)) / 3
    weight[0, block == 4] = weight[1, block == 2] = 0
    predicted, error = ridge(x, y, weight, block)
    for one, fit in enumerate(weight):
        total = fit.sum()
        middle = fit @ x / total
        scale = np.sqrt(fit @ (x - middle) ** 2 / total)
        assert (scale[3] < 1e-6) == (one == 0)
        z, errors = (x - middle) / np.where(scale > 1e-6, scale, np.inf), []
        for penalty in PENALTIES * total:
            squares = 0.0
            for out in (block == left for left in np.unique(block[fit > 0])):
                used = np.where(out, 0, fit)
                model = Ridge(alpha=penalty).fit(z, y, sample_weight=used)
                squares += fit[out] @ (y[out] - model.predict(z[out])) ** 2
            errors.append(squares / total)
        assert error[one] == pytest.approx(min(errors))
        best = PENALTIES[int(np.argmin(errors))] * total
        np.testing.assert_allclose(predicted[one], Ridge(alpha=best).fit(z, y, sample_weight=fit).predict(z))


def test_fits_are_the_shortest_of_least_squares_with_weights():
    rng = np.random.default_rng(2)
    columns, values = rng.integers(0, 2, (20, 5)).astype(float), rng.standard_normal((20, 3))
    columns = np.column_stack([columns, columns[:, 0] + columns[:, 1], np.ones(20), np.zeros(20)])
    weight = rng.integers(0, 4, (4, 20)) / 2
    weight[3] = 0
    found = fits(columns, values, weight)
    for one, fit in enumerate(weight):
        root = np.sqrt(fit)[:, None]
        wanted = columns @ np.linalg.lstsq(root * columns, root * values, rcond=1e-9)[0]
        np.testing.assert_allclose(found[one], wanted, atol=1e-10)


def design_with(cell: np.ndarray, share: np.ndarray, linear: np.ndarray) -> Design:
    """A design whose rows are models of their own; the cells are configurations of their own."""
    many = np.arange(len(linear))
    return Design(1, linear, linear, many, np.bincount(cell, share), np.arange(len(cell)), cell, share)


def test_residuals_are_those_of_least_squares_where_values_are_known():
    rng = np.random.default_rng(2)
    cell, share = np.arange(40) // 2, np.where(np.arange(40) % 3, 1, 0.5)
    linear, values = rng.standard_normal((20, 2)), rng.standard_normal((40, 4))
    values[[1, 2, 3, 15], 1] = np.nan
    values[:, 2] = np.c_[np.ones(20), linear][cell] @ [1, 2, 3]
    values[:, 3] = np.where(cell == 19, 1.5, np.nan)
    outside = np.stack([np.arange(20) < 14, np.arange(20) > 3])
    found = fit_residuals(design_with(cell, share, linear), values, outside)
    columns = np.c_[np.ones(40), linear[cell]]
    for fit, inside in enumerate(outside):
        for place in range(2):
            known = ~np.isnan(values[:, place])
            train, root = known & inside[cell], np.sqrt(share)
            weighted = root[train, None] * columns[train], root[train] * values[train, place]
            slopes = np.linalg.lstsq(*weighted, rcond=None)[0]
            np.testing.assert_allclose(found[fit, known, place], (values[:, place] - columns @ slopes)[known])
            assert (found[fit, ~known, place] == 0).all()
        assert (found[fit, :, 2] == 0).all(), "exactly a function of the columns: nothing is left, not even rounding"
    assert (found[..., 3] == 0).all(), "one cell alone is fitted exactly"


def test_normal_scores_are_those_of_midranks_among_all_that_are_known():
    values = np.array([3.0, 1, 3, 2, np.nan])
    found = normal_scores(values)
    np.testing.assert_allclose(found[:4], stats.norm.ppf([3 / 4, 1 / 8, 3 / 4, 3 / 8]))
    assert np.isnan(found[4]) and np.isnan(normal_scores(np.full(3, np.nan))).all()
    np.testing.assert_array_equal(normal_scores(np.exp(values)), found)


def test_gains_sum_to_the_increment_and_their_spread_is_that_of_configurations():
    rng = np.random.default_rng(3)
    error, added, y, block = *rng.standard_normal((3, 40)), np.repeat(np.arange(10), 4)
    parts = gains(error, added[:, None], y, block)
    total = ((y - y.mean()) ** 2).sum()
    estimate, se, centred = sum_error(parts)
    assert estimate[0] == pytest.approx((error @ error - (error - added) @ (error - added)) / total)
    assert se[0] == pytest.approx(np.sqrt(10) * parts.std(ddof=1)) and centred.sum() == pytest.approx(0)


def test_too_few_configurations_leave_out_interactions_then_everything():
    for sizes, order in (((3, 2, 2, 2), 2), ((3, 3, 2), 1), ((2, 2, 2), 0)):
        axes = list("abcd")[: len(sizes)]
        levels = pd.DataFrame(list(itertools.product(*map(range, sizes))), columns=axes).astype(str)
        table = levels.assign(gap=range(len(levels)), m=range(len(levels)))
        assert make_design(table, axes, "gap", np.arange(len(levels)), 2).order == order
    study = make_study(table, axes=axes, outcome="gap", measures=["m"])
    assert all(np.isnan(one.estimate) for one in increments(study)) and ladder(study).empty


def test_the_best_pair_is_the_one_least_squares_likes_best():
    rng = np.random.default_rng(4)
    for given in (0, 2):
        r, y = rng.standard_normal((30, 7)), rng.standard_normal(30)
        r[:, given + 1] = r[:, given]  # a copy: a pair with it is one column only

        def error(pair: tuple[int, int], r=r, y=y, given=given) -> float:
            columns = r[:, [*range(given), *pair]]
            return ((y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]) ** 2).sum()

        pairs = list(itertools.combinations(range(given, 7), 2))
        assert error(best_pair(r.T @ r, r.T @ y, given)) == pytest.approx(min(map(error, pairs)))


def test_quality_of_predictions():
    rng = np.random.default_rng(5)
    y, predicted, block = *rng.standard_normal((2, 24)), np.repeat(np.arange(6), 4)
    found = {**quality(y, predicted, block, raw=False), **quality(y, predicted, block, raw=True)}
    assert set(found) == {"r2", "tau", "r2_raw", "mae_raw"} and found["r2"] == found["r2_raw"]
    assert found["r2"][0] == pytest.approx(1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert found["mae_raw"][0] == pytest.approx(np.abs(y - predicted).mean())
    assert found["tau"][0] == pytest.approx(stats.kendalltau(y, predicted).statistic)
    assert all(low < estimate < high for estimate, low, high in found.values())
    value, parts = ratio_of_sums(np.array([1.0, 3]), np.array([2.0, 2]))
    assert value == 1 and parts.tolist() == [-0.25, 0.25]
    assert np.isnan(cluster_interval(1.0, parts)[1])
