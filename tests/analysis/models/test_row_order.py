"""Statistics of a table do not depend on the order of its rows, its columns or its axes (of increments: elsewhere)."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.known_answers import AXES, make_family
from robustgap.analysis.model_table import read_models
from robustgap.analysis.model_table.roles import Roles
from robustgap.analysis.statistics import Statistics, StudyData

GIVEN = Roles(state=["loss"], target="robust_test", validation="robust_val", images="images", se="se_gap")
MEASURES = ["genuine", "null_1"]
NAMES = ["measure", "statistic", "axis", "value", "given_axis", "given_value", "given", "component", "column"]
NAMES += ["quantile", "choice", "direction"]


def models() -> pd.DataFrame:
    """96 models with ties, a measure that two lack, and columns for every statistic."""
    table = make_family(24, 0).table
    table = table.assign(gap=table["gap"].round(1), null_1=table["null_1"].round(1), images=8000, loss=table["null_0"])
    table.loc[[3, 17], "genuine"] = np.nan
    return table.assign(robust_test=50 - table["gap"], robust_val=50 - table["gap"] + table["null_1"])


def statistics(table: pd.DataFrame, axes: list[str], folder) -> dict[str, pd.DataFrame]:
    """Every statistic of the table but increments, rows in an order of their own."""
    table.to_csv(folder / "a.csv", index=False)
    beside = [GIVEN.target, GIVEN.validation]
    options = {"measures": MEASURES, "se": GIVEN.se, "beside": beside, "state": GIVEN.state, "counts": [GIVEN.images]}
    read = read_models(folder / "a.csv", axes=axes, outcome="gap", seed_column="seed", **options)
    found = Statistics(StudyData.of_table(read, GIVEN, 20))
    verdicts = ("claims", "statements", "comparisons", "increments")  # tested elsewhere
    return {name: in_order(found.table(name)) for name in found.names if name not in verdicts}


def in_order(content: pd.DataFrame) -> pd.DataFrame:
    if "given" in content:  # sets of axes: 'a|b' is 'b|a'
        content = content.assign(given=["|".join(sorted(str(one).split("|"))) for one in content["given"]])
    numbers = ["ess", "pairs", "estimate"] if "ess" in content else []  # environments have no names
    keys = content[[name for name in [*NAMES, *numbers] if name in content]].copy()
    keys[numbers] = keys[numbers].round(9)
    return content.loc[keys.sort_values(list(keys), kind="stable").index].reset_index(drop=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, pd.DataFrame]:
    return statistics(models(), AXES, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("shuffled", ["rows", "columns", "axes"])
def test_statistics_do_not_depend_on_any_order(plain, tmp_path, shuffled):
    table, axes, rng = models(), list(AXES), np.random.default_rng(0)
    if shuffled == "rows":
        table = table.iloc[rng.permutation(len(table))]
    elif shuffled == "columns":
        table = table[list(rng.permutation(table.columns))]
    else:
        axes = axes[::-1]
    found = statistics(table, axes, tmp_path)
    assert set(found) >= {"correlations", "information", "noise", "selection", "sign_errors", "thresholds", "partial"}
    for name, content in found.items():
        pd.testing.assert_frame_equal(content, plain[name], rtol=1e-9, atol=1e-12, obj=f"{name}, {shuffled} shuffled")
