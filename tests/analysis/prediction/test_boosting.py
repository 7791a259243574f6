"""Boosted trees that grow together, against scikit-learn's, which grow one at a time."""

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor

from robustgap.analysis.prediction.boosting import DEPTH, RATE, TREES, Draws, boosted, chosen_rows, make_draws


def planted(rows: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of 0 and 1, an outcome with interactions, and weights of three fits, some of them 0."""
    rng = np.random.default_rng(seed)
    columns = rng.integers(0, 2, (rows, 8)).astype(float)
    y = columns[:, 0] * columns[:, 1] - columns[:, 2] + rng.standard_normal(rows)
    weight = rng.integers(1, 5, (3, rows)) / 2
    weight[1, : rows // 4] = weight[2, rows // 2 :] = 0
    return columns, y, weight


def scikit_learn(columns: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    model = GradientBoostingRegressor(n_estimators=TREES, learning_rate=RATE, max_depth=DEPTH, random_state=0)
    return model.fit(columns, y, sample_weight=weight).predict(columns)


@pytest.mark.parametrize("seed", range(3))
def test_without_random_choices_predictions_are_scikit_learns(seed):
    """Of the rows that a fit sees: two columns that part these alike may part the others otherwise."""
    assert (TREES, RATE, DEPTH) == (30, 0.2, 3)
    columns, y, weight = planted(seed=seed)
    found = boosted(columns, y, weight, make_draws(1, len(y), 8, seed), subsample=1, features=1)
    for one, fit in zip(found, weight, strict=True):
        seen = fit > 0
        np.testing.assert_allclose(one[seen], scikit_learn(columns[seen], y[seen], fit[seen]), atol=1e-10)


def test_rows_that_are_not_seen_are_predicted_by_the_same_trees():
    """Four columns in every combination, many times: no two part the rows that are seen alike."""
    columns = np.array(list(np.ndindex(2, 2, 2, 2)) * 6, dtype=float)
    rng = np.random.default_rng(0)
    y, weight = rng.standard_normal(96), np.where(np.arange(96) < 64, 1.0, 0)
    y = y + columns @ [1, 2, 3, 4]
    found = boosted(columns, y, weight[None], make_draws(1, 96, 4, 0), subsample=1, features=1)[0]
    model = GradientBoostingRegressor(n_estimators=TREES, learning_rate=RATE, max_depth=DEPTH)
    np.testing.assert_allclose(found, model.fit(columns[:64], y[:64]).predict(columns), atol=1e-10)


def test_many_fits_and_draws_at_once_equal_one_at_a_time(monkeypatch):
    columns, y, weight = planted()
    draws = make_draws(4, len(y), 8, 0)
    found = boosted(columns, y, weight, draws)
    each = [
        [boosted(columns, y, fit[None], Draws(draws.rows[k : k + 1], draws.features[k : k + 1]))[0] for k in range(4)]
        for fit in weight
    ]
    assert np.ptp(np.array(each), axis=1).max() > 0.01, "the draws differ"
    np.testing.assert_allclose(found, np.mean(each, axis=1), atol=1e-12)
    monkeypatch.setattr("robustgap.analysis.prediction.boosting.CHUNK", 150)
    np.testing.assert_allclose(boosted(columns, y, weight, draws), found, atol=1e-12)


def test_a_row_of_weight_0_has_no_influence():
    columns, y, weight = planted()
    unseen, draws = weight[1] == 0, make_draws(3, len(y), 8, 1)
    found = boosted(columns, y, weight[1:2], draws)[0]
    other = np.where(unseen[:, None], 1 - columns, columns)
    again = boosted(other, np.where(unseen, 100 - y, y), weight[1:2], draws)[0]
    np.testing.assert_array_equal(again[~unseen], found[~unseen])


def test_a_unit_of_weights_does_not_matter_and_without_columns_the_mean_is_said():
    columns, y, weight = planted()
    draws = make_draws(2, len(y), 8, 2)
    np.testing.assert_allclose(boosted(columns, y, 8 * weight, draws), boosted(columns, y, weight, draws), atol=1e-12)
    empty = boosted(columns[:, :0], y, weight, make_draws(2, len(y), 0, 2))
    np.testing.assert_allclose(empty, np.repeat((weight @ y / weight.sum(axis=1))[:, None], 60, axis=1))


def test_a_tree_grows_on_the_share_of_the_known_rows_that_come_first():
    known = np.array([[True, True, False, True, True], [False, False, True, False, False]])
    order = np.array([[4, 2, 0, 1, 3], [0, 1, 2, 3, 4]])
    assert chosen_rows(known, order, 0.7).tolist() == [[True, False, False, False, True], [0, 0, 1, 0, 0]]
