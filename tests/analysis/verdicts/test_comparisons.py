"""Paired differences of tau: by brute force on small tables, and their intervals on ledgers whose answer is known."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, t

from benchmarks.known_answers import AXES, draw, make_family, make_world
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.verdicts.comparisons import RESULT, Taus, comparisons, difference
from robustgap.analysis.verdicts.statements import Bases

ASKED = {"axes": AXES, "outcome": "gap"}


def paired_difference(table: pd.DataFrame, a: str, b: str) -> float:
    """|tau_a| - |tau_b| over the models that have both."""
    rows = table[table[[a, b]].notna().all(axis=1)]
    return abs(kendalltau(rows[a], rows["gap"]).statistic) - abs(kendalltau(rows[b], rows["gap"]).statistic)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    table = make_family(24, 0).table
    falling = -table["genuine"] + 0.3 * np.random.default_rng(0).standard_normal(len(table))
    return table.assign(falling=falling, some=table["genuine"].where(np.arange(len(table)) % 3 > 0), constant=1.0)


def test_differences_are_those_of_the_models_that_have_both(table):
    names = ["null_0", "genuine", "falling", "some", "constant"]
    found = comparisons(make_study(table, **ASKED, measures=names), ["axis_proxy"])
    assert list(found.columns) == RESULT
    pairs = list(zip(found["measure"], found["other"], strict=True))
    assert len(pairs) == 10 + 5 and found["kind"].tolist() == ["measure"] * 10 + ["baseline"] * 5
    assert {frozenset(pair) for pair in pairs[:10]} == {frozenset(p) for p in itertools.combinations(names, 2)}
    known = found[found["undefined"] == 0]
    assert len(known) == 6 + 4 and not known["measure"].eq("constant").any()
    for row in known.to_dict("records"):
        assert row["difference"] == pytest.approx(paired_difference(table, row["measure"], row["other"]))
        assert row["family_low"] <= row["low"] <= row["difference"] <= row["high"] <= row["family_high"]
    gone = found[found["undefined"] == 1]
    assert gone[["difference", "low", "family_low", "family_p"]].isna().all(axis=None)
    own = known[known["kind"] == "measure"]
    assert (own.loc[~own["other"].eq("some") & ~own["measure"].eq("some"), "difference"] >= 0).all()


def test_parts_are_what_a_configuration_moves(table):
    """The influence of a configuration is the derivative with respect to how often it is counted."""
    study = make_study(table, **ASKED, measures=["genuine", "falling"])
    rows = np.full(len(study.table), True)
    taus = Taus(study)
    of = {name: np.sign(taus(name, rows)[0]) * taus(name, rows)[1] for name in study.measures}
    step = 1e-6
    for block in (0, 7, 23):
        weight = np.where(study.block == block, 1 + step, 1.0)
        moved = {}
        for name in study.measures:
            x, y = study.table[name].to_numpy(), study.table["gap"].to_numpy()
            sx, sy = (np.sign(v[:, None] - v) for v in (x, y))
            pairs = weight[:, None] * weight
            whole = (pairs * sx * sy).sum() / np.sqrt((pairs * sx**2).sum() * (pairs * sy**2).sum())
            moved[name] = (abs(whole) - abs(kendalltau(x, y).statistic)) / step
        wanted = moved["genuine"] - moved["falling"]
        assert of["genuine"][block] - of["falling"][block] == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def test_a_measure_turned_or_stretched_is_not_told_from_itself(table):
    same = table.assign(turned=-np.exp(table["genuine"]))
    (row,) = comparisons(make_study(same, **ASKED, measures=["genuine", "turned"])).to_dict("records")
    assert row["difference"] == 0 and row["family_p"] == 1
    assert row["low"] < 0 < row["high"]


def test_more_pairs_widen_family_intervals_only(table):
    few, many = (
        comparisons(make_study(table, **ASKED, measures=names))
        for names in (["genuine", "null_0"], ["genuine", "null_0", "falling", "axis_proxy", "clustered_null_1"])
    )
    one = many[(many["measure"] == "genuine") & (many["other"] == "null_0")].iloc[0]
    assert one["low"] == few.loc[0, "low"] and one["family_low"] < few.loc[0, "family_low"] == few.loc[0, "low"]
    with_baseline = comparisons(make_study(table, **ASKED, measures=["genuine", "null_0"]), ["falling"])
    pd.testing.assert_frame_equal(with_baseline.iloc[:1], few)


def test_the_interval_covers_the_difference_of_another_draw_of_the_same_study():
    """150 ledgers of one design: the mean of their differences lies in about 95 % of the intervals."""
    world, rng = make_world(24, np.random.default_rng(5)), np.random.default_rng(6)
    rows = []
    for _ in range(150):
        table = draw(world, {"a": "genuine", "b": "genuine", "c": "axis_proxy"}, rng).table
        study = make_study(table, **ASKED, measures=["a", "b", "c"])
        taus, bases = Taus(study), Bases(study.levels)
        for pair in (("a", "b"), ("a", "c")):
            row, se, free, _ = difference(study, taus, bases, pair)
            rows.append({"other": pair[1], "d": row["difference"], "se": se, "free": free})
    for _, part in pd.DataFrame(rows).groupby("other"):
        reach = t.isf(0.025, part["free"]) * part["se"]
        covered = ((part["d"] - part["d"].mean()).abs() <= reach).mean()
        assert 0.90 <= covered <= 0.995
