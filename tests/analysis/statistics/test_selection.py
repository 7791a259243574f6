"""Regret of picking by a measure, against all ways to draw candidates written out, and measures that know nothing."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustgap.analysis.ranks.bootstrap import Bootstrap
from robustgap.analysis.ranks.picking import best_of, chance, expected_pick
from robustgap.analysis.statistics.selection import (
    CANDIDATES,
    LAST,
    RANDOM_CHOICE,
    RESULT,
    VALIDATION,
    make_candidates,
    selection,
)

AXES = ["a", "b", "checkpoint"]
OPTIONS = {"axes": AXES, "target": "test", "seed_column": "seed"}


def design(seed: int = 0, values: int = 8) -> pd.DataFrame:
    """`values` x 3 configurations x 2 seeds x {last, best}, with random test accuracies."""
    levels = itertools.product(map(str, range(values)), "012", "01", ["last", "best"])
    table = pd.DataFrame(levels, columns=["a", "b", "seed", "checkpoint"])
    rng = np.random.default_rng(seed)
    cell = rng.standard_normal(3 * values).repeat(4)
    return table.assign(test=50 + 5 * cell + rng.standard_normal(len(table)), m=rng.standard_normal(len(table)))


def one(
    found: pd.DataFrame, measure: str, statistic: str = "regret", choice: str = "model", direction: str = "learned"
):
    direction = "" if measure in (RANDOM_CHOICE, LAST, VALIDATION) else direction
    wanted = {"measure": measure, "statistic": statistic, "choice": choice, "direction": direction}
    rows = found[(found[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    assert len(rows) == 1
    return rows.iloc[0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5), st.integers(0, 2)), min_size=2, max_size=6),
    st.integers(2, 4),
)
def test_the_expected_pick_is_the_mean_over_all_subsets_with_ties_broken_at_random(rows, size):
    score, target, weight = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    slots = np.repeat(np.arange(len(score)), weight.astype(int))
    found = expected_pick(score, target, weight[None], size)[0]
    if len(slots) < size:
        assert np.isnan(found)
        return
    # A tie is between all slots of that score, wherever they were drawn: each is as likely as the others.
    means = []
    for drawn in itertools.combinations(slots, size):
        tied = [slot for slot in drawn if score[slot] == score[list(drawn)].max()]
        means.append(target[tied].mean())
    assert found == pytest.approx(np.mean(means))


def test_chance_is_a_ratio_of_binomial_coefficients():
    for below, total, size in ((5, 9, 3), (2, 9, 3), (9, 9, 3), (0, 4, 2)):
        found = chance(np.array([[float(below)]]), np.array([float(total)]), size)
        assert found == pytest.approx(math.comb(below, size) / math.comb(total, size))
    assert np.isnan(chance(np.array([[1.0]]), np.array([1.0]), 2))


def test_the_best_of_a_group_averages_ties():
    top, target = best_of(np.array([0, 0, 0, 2]), np.array([1.0, 3, 3, 0]), np.array([9.0, 2, 4, 7]))
    assert top.tolist() == [3, -np.inf, 0] and target[[0, 2]].tolist() == [3, 7] and np.isnan(target[1])


def test_perfect_measures_of_either_sign_lose_nothing_and_beat_chance():
    table = design().assign(up=lambda t: t["test"], down=lambda t: -t["test"])
    found = selection(table, **OPTIONS, measures=["up", "down"], signs={"up": -1, "down": -1}, draws=50)
    for choice in ("model", "checkpoint"):
        for measure, direction in (("up", "learned"), ("down", "learned"), ("up", "declared")):
            assert one(found, measure, "regret", choice, direction)["estimate"] == pytest.approx(0, abs=1e-12)
        lost = one(found, RANDOM_CHOICE, choice=choice)["estimate"]
        assert one(found, "up", "over_random", choice)["estimate"] == pytest.approx(lost) and lost > 0
        worst = one(found, "down", "regret", choice, "declared")["estimate"]
        assert worst > lost, "a declared sign that is wrong is not mended"


def test_regrets_of_one_split_equal_their_definition(monkeypatch):
    monkeypatch.setattr("robustgap.analysis.statistics.selection.SPLITS", 1)
    table = design(4).assign(val=lambda t: t["test"] + np.random.default_rng(1).standard_normal(len(t)))
    found = selection(table, **OPTIONS, measures=["m"], signs={"m": -1}, validation="val", draws=0)
    study = make_candidates(table, AXES, "test", "seed", Bootstrap(0, 0))
    lost, ways, trusted = [], [], []
    for half in study.halves:
        drawn = [table[np.isin(study.block, some)] for some in itertools.combinations(np.flatnonzero(half), CANDIDATES)]
        best = [group["test"].max() for group in drawn]
        ends = [[group.loc[group["m"].idxmax(), "test"], group.loc[group["m"].idxmin(), "test"]] for group in drawn]
        trusted.append(np.mean(best) - np.mean([group.loc[group["val"].idxmax(), "test"] for group in drawn]))
        ways.append(np.mean(best) - np.mean(ends, axis=0))
        lost.append(np.mean(best) - np.mean([group["test"].mean() for group in drawn]))
    assert one(found, "m", direction="declared")["estimate"] == pytest.approx(np.mean(ways, axis=0)[0])
    assert one(found, RANDOM_CHOICE)["estimate"] == pytest.approx(np.mean(lost))
    assert one(found, VALIDATION)["estimate"] == pytest.approx(np.mean(trusted))
    over = one(found, "m", "over_validation", direction="declared")["estimate"]
    assert over == pytest.approx(np.mean(trusted) - np.mean(ways, axis=0)[0])
    honest = [ways[0][np.argmin(ways[1])], ways[1][np.argmin(ways[0])]]
    assert one(found, "m")["estimate"] == pytest.approx(np.mean(honest))


def test_checkpoints_are_picked_run_by_run():
    table = design(2).assign(m=lambda t: (t["checkpoint"] == "best") * 1.0)
    found = selection(table, **OPTIONS, measures=["m"], signs={"m": -1}, draws=50)
    wide = table.pivot_table(index=["a", "b", "seed"], columns="checkpoint", values="test")
    top = wide.max(axis=1)
    for measure, picked in ((VALIDATION, wide["best"]), (LAST, wide["last"]), (RANDOM_CHOICE, wide.mean(axis=1))):
        row = one(found, measure, choice="checkpoint")
        assert row["estimate"] == pytest.approx((top - picked).mean(), rel=1e-9)
        assert row["n"] == 48 and row["undefined"] == 0 and row["low"] < row["estimate"] < row["high"]
    same = one(found, "m", "over_validation", "checkpoint", "declared")
    assert same[["estimate", "low", "high"]].tolist() == [0, 0, 0], "the same picks, so the same regret"


def test_a_measure_that_knows_nothing_wins_nothing_though_its_direction_is_chosen():
    """Chosen on the models judged, the better of two directions of noise would win every time."""
    won = {"model": [], "checkpoint": []}
    for seed in range(60):
        found = selection(design(seed, values=6), **OPTIONS, measures=["m"], draws=0)
        for choice, values in won.items():
            values.append(one(found, "m", "over_random", choice)["estimate"])
    for values in won.values():
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)


def test_models_without_the_measure_cannot_be_picked_and_are_counted():
    table = design().assign(m=lambda t: t["test"].where(t["a"] != "0"))
    table.loc[table.index[-1], "m"] = np.nan
    found = selection(table, **OPTIONS, measures=["m"], draws=0)
    assert one(found, "m")[["estimate", "n", "undefined"]].tolist() == [0, 96 - 13, 13]
    assert one(found, "m", choice="checkpoint")[["n", "undefined"]].tolist() == [48 - 7, 7]


@pytest.mark.parametrize("values", [np.nan, 1.0])
def test_nothing_to_go_by_is_undefined_or_as_good_as_random(values):
    found = selection(design().assign(m=values), **OPTIONS, measures=["m"], draws=20)
    for choice in ("model", "checkpoint"):
        row, chance_ = one(found, "m", choice=choice), one(found, RANDOM_CHOICE, choice=choice)
        assert np.isnan(row["estimate"]) if np.isnan(values) else row["estimate"] == pytest.approx(chance_["estimate"])


def test_too_few_configurations_and_no_models_are_no_fault():
    few = design().query("a == '0'")
    found = selection(few, **OPTIONS, measures=["m"], draws=20)
    assert list(found.columns) == RESULT and np.isnan(one(found, "m")["estimate"])
    assert selection(few.assign(test=np.nan), **OPTIONS, measures=["m"]).empty
    last = design().query("checkpoint == 'last'")
    alone = selection(last, **{**OPTIONS, "axes": ["a", "b"]}, measures=["m"], draws=0)
    assert set(alone["choice"]) == {"model"}
