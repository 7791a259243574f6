"""Settings and seeds are compared as text: a table that writes one number in two ways is refused."""

import itertools

import numpy as np
import pandas as pd
import pytest

from robustgap.analysis.__main__ import main
from robustgap.analysis.model_table import read_models
from robustgap.analysis.model_table.checks import check_written_once

OPTIONS = {"axes": ["defense", "batch"], "outcome": "gap", "seed_column": "seed"}


@pytest.fixture
def table() -> pd.DataFrame:
    table = pd.DataFrame(
        itertools.product(["AT", "MART"], ["32", "64"], ["0", "1"]), columns=["defense", "batch", "seed"]
    )
    return table.assign(gap=np.arange(len(table)) / 4, m=1.0)


@pytest.mark.parametrize(
    ("column", "role", "other"),
    [("seed", "seed", "0.0"), ("batch", "axis", "32.0"), ("batch", "axis", "3.2e1"), ("batch", "axis", "+32")],
)
def test_one_number_in_two_ways_is_one_line(table, tmp_path, capsys, column, role, other):
    first = table[column].iloc[0]
    again = table.assign(**{column: table[column].replace(first, other)})
    pd.concat([table, again[again[column] == other]]).to_csv(tmp_path / "a.csv", index=False)
    given = ["--axes", "defense,batch", "--seed-column", "seed", "--outcome", "gap", "--out", str(tmp_path / "out")]
    for command in ("correlate", "claims", "statistics"):
        assert main([command, str(tmp_path / "a.csv"), *given]) == 1
        wanted = f"found '{first}' and '{other}' in {role} column '{column}', wanted one way of writing a number"
        assert capsys.readouterr().err == f"error: {tmp_path / 'a.csv'}: {wanted}\n"
    assert not (tmp_path / "out").exists()


def test_spaces_around_a_number_are_no_other_way(table, tmp_path):
    table.assign(seed=[f" {seed} " if place % 3 else seed for place, seed in enumerate(table["seed"])]).to_csv(
        tmp_path / "a.csv", index=False
    )
    assert set(read_models(tmp_path / "a.csv", **OPTIONS).rows["seed"]) == {"0", "1"}


@pytest.mark.parametrize("kind", ["float64", "Int64", "int64"])
def test_a_numeric_column_is_written_in_one_way(table, tmp_path, kind):
    table.astype({"batch": kind, "seed": kind}).to_parquet(tmp_path / "a.parquet")
    table.astype({"batch": kind, "seed": kind}).to_csv(tmp_path / "a.csv", index=False)
    for name in ("a.csv", "a.parquet"):
        assert read_models(tmp_path / name, **OPTIONS).rows["batch"].nunique() == 2


def test_parquet_with_mixed_numbers_is_refused(table, tmp_path):
    """Two tables put together in Python: text there, numbers here."""
    mixed = pd.concat([table, table.assign(seed=["2.0", "1.0"] * 4)])
    mixed.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"found '1' and '1\.0' in seed column 'seed'"):
        read_models(tmp_path / "a.parquet", **OPTIONS)


def test_names_and_long_numbers_stay_apart():
    """As floats the first two would be one; the others are no numbers, or no finite ones."""
    apart = ["12345678901234567890", "12345678901234567891", "1_0", "10", "nan", "NaN", "inf", "Infinity", "true", "1"]
    check_written_once(pd.Series([*apart, "0x10", "16", "", "NA", "1e999999999999999999999"]), "a", "axis", "a.csv")
