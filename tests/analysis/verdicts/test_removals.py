"""What verdicts rest on: a run planted in a ledger turns a verdict, and is found to."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.known_answers import AXES, make
from robustgap.analysis.verdicts.claims import REPLICATES, SIGN_DEPENDS, UNRESOLVED, claims
from robustgap.analysis.verdicts.removals import FURTHEST, RESULT, clearance, margin, ranked, removals, with_removals

PLANTED = 18  # configuration with a run that is measured wildly wrong
ASKED = {"axes": AXES, "outcome": "gap", "measures": ["m"]}


def named(row: pd.Series) -> str:
    return ", ".join(f"{axis}={row[axis]}" for axis in AXES[:-1])


def verdict_of(table: pd.DataFrame) -> str:
    return claims(table, **ASKED)[0]["verdict"].item()


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """24 configurations and a genuine measure, which is put at its far end in both checkpoints of one run."""
    table = make("genuine", 24, 9)[1].table
    run = table.index[4 * PLANTED : 4 * PLANTED + 2]
    assert table.loc[run, "seed"].tolist() == ["0", "0"]
    wrong = -50.0 if table.loc[run[0], "gap"] > table["gap"].median() else 50.0
    return table.assign(m=table["m"].where(~table.index.isin(run), wrong))


@pytest.fixture(scope="module")
def found(table) -> pd.Series:
    return removals(table, **ASKED, run="seed").iloc[0]


def test_the_planted_configuration_and_run_are_named_with_the_verdict_without_them(table, found):
    """By brute force: each configuration left out, and each run of the planted one."""
    name = table[AXES[:-1]].agg(named, axis=1)
    without = {one: verdict_of(table[name != one]) for one in name.unique()}
    own = name[4 * PLANTED]
    assert verdict_of(table) == UNRESOLVED and without[own] == REPLICATES
    assert found["rests_on"] == own and found["rests_on_verdict"] == without[own]
    assert found["left_out"] == 24 and found["turning"] == sum(one != UNRESOLVED for one in without.values())
    assert found["margin"] > 0 > found["rests_on_margin"]
    assert found["rests_on_run"] == "0" and found["rests_on_run_margin"] < 0
    assert found["rests_on_run_verdict"] == verdict_of(table[(name != own) | (table["seed"] != "0")]) == REPLICATES


def test_a_margin_is_positive_where_the_verdict_holds_and_negative_where_it_does_not(table):
    """Also of the verdicts that the table does not have."""
    for rows in (table, make("sign_flip", 24, 0)[1].table, make("axis_proxy", 24, 0)[1].table):
        verdict, statements = claims(rows, **ASKED)
        told = statements.to_dict("records")
        for one in (SIGN_DEPENDS, REPLICATES, "proxy of the settings", UNRESOLVED):
            assert (margin(told, None, one) > 0) == (verdict["verdict"].item() == one), one
        if verdict["verdict"].item() == REPLICATES:
            side = int(np.sign(verdict["tau"].item()))
            assert margin(told, -side, REPLICATES) <= -1


def test_of_many_configurations_those_that_errors_point_at_are_left_out(table, found):
    few = removals(table, **ASKED, run="seed", exact=8, most=6).iloc[0]
    assert few["left_out"] == 6 and 1 <= few["turning"] <= found["turning"]
    others = [name for name in RESULT if name not in ("left_out", "turning")]
    pd.testing.assert_series_equal(few[others], found[others])


def test_each_measure_in_turn_names_the_configuration_of_least_margin():
    margins = np.array([[3.0, 0.0], [1.0, 2.0], [2.0, 1.0], [0.0, 3.0]])
    assert ranked(margins, 2).tolist() == [3, 0]
    assert ranked(margins, 3).tolist() == [3, 0, 1]
    assert ranked(margins, 9).tolist() == [3, 0, 1, 2]
    assert ranked(np.array([[1.0, 5.0], [0.0, 4.0]]), 1).tolist() == [1]


def test_distances_are_in_half_widths_and_bounded():
    assert clearance(1.0, 3.0) == 0.5 and clearance(-1.0, 3.0) == -0.25
    assert clearance(2.0, 2.0) == FURTHEST == -clearance(-2.0, -2.0)
    assert np.isnan(clearance(np.nan, 1.0))


def test_verdicts_stand_beside_what_they_rest_on(found):
    verdict = pd.DataFrame({"measure": ["random number", "m"], "verdict": [UNRESOLVED, UNRESOLVED]})
    made = with_removals(verdict, found.to_frame().T).set_index("measure")
    assert list(made.columns) == ["verdict", *RESULT[1:]]
    assert made.loc["m", RESULT[1:]].to_dict() == found[RESULT[1:]].to_dict()
    assert made.loc["random number", ["rests_on", "rests_on_run_verdict"]].tolist() == ["", ""]
    assert made.loc["random number", ["margin", "left_out", "turning"]].isna().all()
    empty = with_removals(verdict, None)
    assert list(empty.columns) == ["measure", *made.columns] and (empty["rests_on"] == "").all()
    assert empty["left_out"].isna().all()
