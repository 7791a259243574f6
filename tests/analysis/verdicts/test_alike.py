"""Measures that order the models alike are one group, whatever they are called and wherever they stand."""

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from robustgap.analysis.verdicts.alike import ALIKE, absolute_taus, groups_by_order


def table_of(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    base, other = rng.standard_normal((2, n))
    columns = {"a": base, "exp": np.exp(3 * base), "down": -(base**3), "other": other, "constant": np.ones(n)}
    return pd.DataFrame(columns).assign(gap=base + 0.5 * rng.standard_normal(n))


def test_monotone_changes_of_one_another_are_one_group_falling_ones_too():
    found = groups_by_order(table_of(), outcome="gap", measures=["other", "exp", "a", "down", "constant"])
    assert found == {"a": "a", "exp": "a", "down": "a", "other": "", "constant": ""}


def test_groups_depend_on_no_order_of_columns_or_rows():
    table, names = table_of(), ["a", "exp", "down", "other", "constant"]
    shuffled = groups_by_order(table.sample(frac=1, random_state=1), outcome="gap", measures=names[::-1])
    assert shuffled == groups_by_order(table, outcome="gap", measures=names)


def chain(n: int = 400) -> pd.DataFrame:
    """b orders the models as a does, and as c does; a and c are further apart."""
    rng = np.random.default_rng(1)
    b = rng.standard_normal(n)
    a, c = b + 0.13 * rng.standard_normal(n), b + 0.13 * rng.standard_normal(n)
    return pd.DataFrame({"a": a, "b": b, "c": c, "gap": b + 0.01 * rng.standard_normal(n)})


def test_each_two_of_a_group_are_alike():
    table = chain()
    taus = absolute_taus(table, ["a", "b", "c"])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        wanted = kendalltau(table["abc"[i]], table["abc"[j]]).statistic
        np.testing.assert_allclose(taus[i, j], wanted)
    assert taus[0, 1] > ALIKE > taus[0, 2] and taus[1, 2] > ALIKE
    found = groups_by_order(table, outcome="gap", measures=["a", "b", "c"])
    assert found["b"] == "b" and sorted([found["a"], found["c"]]) == ["", "b"]


def test_measures_that_few_models_share_are_not_called_alike():
    table = table_of()
    half = table.assign(exp=table["exp"].where(table.index < 20))
    assert groups_by_order(half, outcome="gap", measures=["a", "exp"]) == {"a": "", "exp": ""}
    assert groups_by_order(table, outcome="gap", measures=["a"]) == {"a": ""}
    assert groups_by_order(table, outcome="gap", measures=[]) == {}
