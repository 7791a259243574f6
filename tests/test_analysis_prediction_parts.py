"""What out-of-fold prediction is made of, against scikit-learn, SciPy and loops: folds, ridge, residuals, designs."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import Ridge

from analysis.increments import increments
from analysis.ladder import best_pair, cluster_interval, ladder, quality, ratio
from analysis.prediction import gains, normal_scores, residuals, sum_error
from analysis.settings_models import PENALTIES, folds_of, held_out_errors, make_design, ridge
from analysis.study_table import make_study


def test_folds_keep_configurations_together_and_are_even():
    block = np.repeat(np.arange(24), 4)[np.random.default_rng(0).permutation(96)]
    fold = folds_of(block, 10, 0)
    assert all(len(np.unique(fold[block == one])) == 1 for one in range(24))
    assert set(np.unique(fold[np.unique(block, return_index=True)[1]], return_counts=True)[1]) == {2, 3}
    assert len(np.unique(folds_of(np.array([0, 0, 1]), 10, 0))) == 2


def test_errors_of_left_out_blocks_equal_refitting_and_ridge_equals_scikit_learn():
    rng = np.random.default_rng(1)
    x, y, block = rng.standard_normal((30, 5)), rng.standard_normal(30), np.array([0] * 3 + [1] * 7 + [2, 3] * 10)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    left, size, _ = np.linalg.svd(x, full_matrices=False)
    errors = []
    for penalty in PENALTIES * 30:
        total = 0.0
        for one in range(4):
            out = block == one
            total += ((y[out] - Ridge(alpha=penalty).fit(x[~out], y[~out]).predict(x[out])) ** 2).sum()
        shrink = size**2 / (size**2 + penalty)
        centred = y - y.mean()
        assert held_out_errors(left, shrink, left.T @ centred, centred, block) == pytest.approx(total / 30)
        errors.append(total / 30)
    new = rng.standard_normal((4, 5))
    predicted, error = ridge(x, y, block, new)
    assert error == pytest.approx(min(errors))
    best = PENALTIES[int(np.argmin(errors))] * 30
    np.testing.assert_allclose(predicted, Ridge(alpha=best).fit(x, y).predict(new))


def test_residuals_are_those_of_least_squares_where_values_are_known():
    rng = np.random.default_rng(2)
    columns, values = np.c_[np.ones(20), rng.standard_normal((20, 2))], rng.standard_normal((20, 3))
    values[[1, 15], 1] = np.nan
    values[:, 2] = columns @ [1, 2, 3]
    train = np.arange(20) < 14
    found = residuals(columns, values, train)
    for place in range(2):
        known = ~np.isnan(values[:, place])
        fit = np.linalg.lstsq(columns[train & known], values[train & known, place], rcond=None)[0]
        np.testing.assert_allclose(found[known, place], (values[:, place] - columns @ fit)[known])
        assert (found[~known, place] == 0).all()
    assert (found[:, 2] == 0).all(), "exactly a function of the columns: nothing is left, not even rounding"


def test_normal_scores_are_those_of_midranks_and_ignore_other_rows():
    values, train = np.array([3.0, 1, 3, 2, np.nan, 9, 2.5]), np.array([1, 1, 1, 1, 1, 0, 0], dtype=bool)
    wanted = stats.norm.ppf([3 / 4, 1 / 8, 3 / 4, 3 / 8])
    found = normal_scores(values, train)
    np.testing.assert_allclose(found[:4], wanted)
    assert np.isnan(found[4]) and found[5] == wanted[0] and found[6] == pytest.approx((wanted[0] + wanted[3]) / 2)
    assert np.isnan(normal_scores(np.full(3, np.nan), np.full(3, True))).all()


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
        levels = pd.DataFrame(list(itertools.product(*map(range, sizes))), columns=list("abcd")[: len(sizes)])
        assert make_design(levels, np.arange(len(levels)), 2).order == order
    small = levels.assign(gap=range(8), m=range(8)).astype({name: str for name in levels})
    found = increments(make_study(small, axes=["a", "b", "c"], outcome="gap", measures=["m"]))
    assert all(np.isnan(one.estimate) for one in found)
    assert ladder(make_study(small, axes=["a", "b", "c"], outcome="gap", measures=["m"])).empty


def test_the_best_pair_is_the_one_least_squares_likes_best():
    rng = np.random.default_rng(4)
    for given in (0, 2):
        r, y = rng.standard_normal((30, 7)), rng.standard_normal(30)
        r[:, given + 1] = r[:, given]  # a copy: a pair with it is one column only

        def error(pair: tuple[int, int], r=r, y=y, given=given) -> float:
            columns = r[:, [*range(given), *pair]]
            return ((y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]) ** 2).sum()

        pairs = list(itertools.combinations(range(given, 7), 2))
        assert error(best_pair(r, y, given)) == pytest.approx(min(map(error, pairs)))


def test_quality_of_predictions():
    rng = np.random.default_rng(5)
    y, predicted, block = *rng.standard_normal((2, 24)), np.repeat(np.arange(6), 4)
    found = quality(y, predicted, block)
    assert found["r2"][0] == pytest.approx(1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert found["mae"][0] == pytest.approx(np.abs(y - predicted).mean())
    assert found["tau"][0] == pytest.approx(stats.kendalltau(y, predicted).statistic)
    assert all(low < estimate < high for estimate, low, high in found.values())
    value, parts = ratio(np.array([1.0, 3]), np.array([2.0, 2]))
    assert value == 1 and parts.tolist() == [-0.25, 0.25]
    assert np.isnan(cluster_interval(1.0, parts)[1])
