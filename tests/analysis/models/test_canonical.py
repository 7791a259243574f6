"""Names of values and axes, orders of axes, rows and columns, and monotone changes of the outcome say nothing."""

import itertools

import numpy as np
import pandas as pd
import pytest
from both_rules import with_both

from benchmarks.known_answers import AXES, make
from robustgap.analysis.ledger import BOTH
from robustgap.analysis.models.canonical import canonical_codes, canonical_rows, value_order
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.prediction.increment_statements import design_of
from robustgap.analysis.prediction.settings_regression import LEAVE_ONE
from robustgap.analysis.statistics.increments import RESULT, both_scales, left_out_rows
from robustgap.analysis.verdicts.claims import claims

NAMES = dict(zip(AXES[:4], ("z", "y", "b", "a"), strict=True)) | {"checkpoint": "checkpoint"}


def large() -> pd.DataFrame:
    """108 configurations, which are dealt into folds, with one run each."""
    rng, sizes = np.random.default_rng(5), (4, 3, 3, 3)
    level = np.array(list(itertools.product(*map(range, sizes), range(2))))
    effect = sum(rng.standard_normal(size)[level[:, axis]] for axis, size in enumerate(sizes))
    gap = effect + np.repeat(0.5 * rng.standard_normal(108), 2) + 0.3 * rng.standard_normal(216)
    settings = {axis: [f"{axis}{one}" for one in level[:, place]] for place, axis in enumerate(AXES[:4])}
    rules = np.array(["last", "best"])[level[:, 4]]
    return pd.DataFrame({**settings, "checkpoint": rules, "seed": "0", "gap": gap, "m": gap + rng.standard_normal(216)})


def studied(case: str) -> pd.DataFrame:
    """A measure m, noise with holes, and a function of the settings."""
    table = large() if case == "deals" else make("genuine", 24, 3)[1].table
    table = table if case == "whole" else with_both(table)
    assert (table["checkpoint"] == BOTH).any() == (case != "whole")
    assert (len(table[AXES[:4]].drop_duplicates()) > LEAVE_ONE) == (case == "deals")
    rng = np.random.default_rng(1)
    noise = np.where(rng.random(len(table)) < 0.1, np.nan, rng.standard_normal(len(table)))
    return table.assign(noise=noise, proxy=table["defense"].str[-1].astype(float) ** 2)


def renamed(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str], dict[str, dict[str, str]]]:
    """Other names and orders of axes and values, rows and columns shuffled, the outcome changed monotonely; and the old
    name of each value."""
    old: dict[str, dict[str, str]] = {}
    found = table.sample(frac=1, random_state=3).assign(gap=np.exp(1.5 * table["gap"]))
    for axis in AXES[:4]:
        values = sorted(set(table[axis]))
        names = dict(zip(values, np.random.default_rng(0).permutation(len(values)).astype(str), strict=True))
        found[axis] = found[axis].map(names)
        old[NAMES[axis]] = {name: value for value, name in names.items()}
    found = found.rename(columns=NAMES)[sorted(found.rename(columns=NAMES), reverse=True)]
    return found.reset_index(drop=True), [NAMES[axis] for axis in AXES[::-1]], old


def old_names(rows: pd.DataFrame, old: dict[str, dict[str, str]]) -> pd.DataFrame:
    """Tidy rows with the names of axes and values as they were, in an order of their own."""
    axis = {new: axis for axis, new in NAMES.items()}
    value = [old.get(row["axis"], {}).get(row["value"], row["value"]) for row in rows.to_dict("records")]
    rows = rows.assign(axis=rows["axis"].map(lambda name: axis.get(name, name)), value=value)
    keys = [name for name in ("measure", "statistic", "axis", "value", "learner", "step", "over") if name in rows]
    return rows.sort_values(keys).reset_index(drop=True)


def assert_same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    numbers = wanted.select_dtypes("number").columns
    pd.testing.assert_frame_equal(found.drop(columns=numbers), wanted.drop(columns=numbers))
    np.testing.assert_allclose(found[numbers].astype(float), wanted[numbers].astype(float), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ["whole", "both", "deals"])
def test_verdicts_and_statements_are_the_same_under_other_names_and_orders(case):
    table, names = studied(case), ["m", "noise", "proxy"]
    verdict, rows = claims(table, axes=AXES, outcome="gap", measures=names)
    other, axes, old = renamed(table)
    again, changed = claims(other, axes=axes, outcome="gap", measures=names[::-1])
    again = again.set_index("measure").loc[names].reset_index()
    assert again["verdict"].tolist() == verdict["verdict"].tolist()
    plain = ["axis", "reason"]  # the sentences name axes and values
    assert_same(again.drop(columns=plain), verdict.drop(columns=plain))
    assert_same(old_names(changed, old), old_names(rows, {}))


@pytest.mark.parametrize("case", ["both", "deals"])
def test_the_ladder_is_the_same_under_other_names_and_orders(case):
    """Beside the outcome's own unit, which the change of the outcome does change."""

    def rows(table: pd.DataFrame, axes: list[str], names: list[str], left: str) -> pd.DataFrame:
        study = make_study(table, axes=axes, outcome="gap", measures=names)
        found = both_scales(study, *design_of(study), [], [{}], seed=0)
        if case == "both":
            found += left_out_rows(study, left, [], 0)
        made = pd.DataFrame(found, columns=RESULT)
        return made[~made["statistic"].str.endswith("_raw")].drop(columns="members")

    table = studied(case)
    other, axes, old = renamed(table)
    names = ["m", "proxy"] if case == "both" else ["m"]  # of one measure, no steps combine several
    wanted, found = rows(table, AXES, names, "defense"), rows(other, axes, names[::-1], NAMES["defense"])
    assert (wanted["axis"] == "defense").any() == (case == "both")
    assert_same(old_names(found, old), old_names(wanted, {}))


def test_values_come_by_their_mean_midrank_and_axes_by_their_number_of_values():
    outcome = np.array([5.0, 1, 3, 3, 9, 0])
    settings = pd.DataFrame({"p": list("aabbcc"), "q": list("xyxyxy"), "r": list("uuuuvv")})
    midranks, one = np.array([5, 2, 3.5, 3.5, 6, 1]), np.ones(6)
    assert value_order(settings["p"].to_numpy(str), midranks, one)[0] == ["c", "a", "b"], "equal means: by midranks"
    assert value_order(settings["q"].to_numpy(str), midranks, one)[0] == ["y", "x"]
    codes = canonical_codes(settings, outcome, one)
    assert codes[:, 0].tolist() == [1, 0] * 3, "q's first value has the lower mean"
    assert codes[:, 1].tolist() == [1, 1, 1, 1, 0, 0], "r: means 3.5 and 3.5, midranks 1 and 6 before 2 to 5"
    assert codes[:, 2].tolist() == [1, 1, 2, 2, 0, 0], "p has the most values"
    np.testing.assert_array_equal(canonical_codes(settings, np.exp(outcome), one), codes)
    order = canonical_rows(codes, outcome)
    assert sorted(order) == list(range(6))
    keys = [(*codes[row], outcome[row]) for row in order]
    assert keys == sorted(keys)
    assert canonical_codes(settings[[]], outcome, one).shape == (6, 0)


def test_a_row_that_stands_twice_weighs_half_each_time():
    midranks, labels = np.array([1.0, 2, 3, 4]), np.array(["a", "b", "a", "b"])
    assert value_order(labels, midranks, np.ones(4))[0] == ["a", "b"]
    assert value_order(labels, midranks, np.array([0.5, 1, 1, 0.25]))[0] == ["a", "b"]
    assert value_order(labels, midranks, np.array([0.1, 1, 1, 0.1]))[0] == ["b", "a"]
