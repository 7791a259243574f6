"""Cells of a table as numbers, and what its columns and rows are taken for where nobody says."""

import itertools

import numpy as np
import pandas as pd
import pytest

from robustgap.analysis.model_table import ModelTable, read_models
from robustgap.analysis.model_table.cells import parsed


@pytest.fixture
def table() -> pd.DataFrame:
    rows = itertools.product(["AT", "MART"], ["32", "64"], ["0", "1"])
    table = pd.DataFrame(rows, columns=["defense", "batch", "seed"])
    return table.assign(gap=np.arange(len(table)) / 4, m=np.arange(len(table)) ** 2 / 7)


def read(table: pd.DataFrame, folder, **options) -> ModelTable:
    table.to_csv(folder / "a.csv", index=False)
    asked = {"axes": ["defense", "batch"], "outcome": "gap", "seed_column": "seed"} | options
    return read_models(folder / "a.csv", **asked)


NONE = np.nan
CELLS = {  # cells of a column, their numbers, and what is said
    "words for nothing": (["1", "", "NA", "n/a", "#N/A", "<NA>", "None", "-", "?"], [1, *[NONE] * 8], []),
    "faults of a spreadsheet": (["#DIV/0!", "2", "#VALUE!"], [NONE, 2, NONE], ["2 cells count as missing (#DIV/0!)"]),
    "infinite": (["inf", "-Infinity", "3"], [NONE, NONE, 3], ["2 infinite values count as missing"]),
    "one infinite": (["1e999", "3"], [NONE, 3], ["1 infinite value counts as missing"]),
    "percentages": (["62.5%", "", "7 %"], [62.5, NONE, 7], ["percentages are taken as numbers in percent"]),
    "thousands": (["1,234,567", "890", "-1,000"], [1234567, 890, -1000], ["commas are taken as thousands separators"]),
    "thousands and a point": (["1,234.5", "2,000"], [1234.5, 2000], ["commas are taken as thousands separators"]),
    "true and false": (["True", "FALSE", ""], [1, 0, NONE], ["true is taken as 1, false as 0"]),
    "a typographer's minus": (["−1.5", "2"], [-1.5, 2], []),
    "plain": ([" 1 ", "-2e3", "+.5"], [1, -2000, 0.5], []),
}


@pytest.mark.parametrize("name", CELLS)
def test_cells_as_numbers(name):
    cells, numbers, told = CELLS[name]
    found = parsed(pd.Series(cells, dtype=str))
    np.testing.assert_array_equal(found.numbers.to_numpy(float), numbers)
    assert not found.bad.any() and len(found.notes) == len(told)
    assert all(note.startswith(start) for note, start in zip(found.notes, told, strict=True))


@pytest.mark.parametrize(
    ("cells", "bad"),
    [
        (["1,234", "5,678"], "1,234"),  # a decimal comma, or thousands: nobody knows
        (["1,5", "2,25"], "1,5"),
        (["1.234,5", "2"], "1.234,5"),
        (["12,34,567", "2"], "12,34,567"),
        (["62%", "0.5"], "62%"),
        (["true", "1"], "true"),
        (["1_000", "2"], "1_000"),
    ],
)
def test_cells_that_could_mean_two_things_are_named(table, tmp_path, cells, bad):
    assert parsed(pd.Series(cells, dtype=str)).bad.tolist()[0]
    spoiled = table.assign(m=[cells[0], *[cells[1]] * (len(table) - 1)])
    with pytest.raises(ValueError, match=r"row 1: found '.*' in measure column 'm', wanted a number") as error:
        read(spoiled, tmp_path, measures=["m"])
    assert repr(bad) in str(error.value)


def test_what_cells_count_as_is_said_of_each_column(table, tmp_path):
    spoiled = table.assign(m=["inf", "-inf", *["1", "2"] * 3], gap=["inf", *table["gap"][1:]])
    found = read(spoiled, tmp_path)
    assert "column m: 2 infinite values count as missing" in found.notes
    assert "column gap: 1 infinite value counts as missing" in found.notes
    assert "outcome gap: 1 of 8 models have none and are left out" in found.notes


NO_MEASURES = {
    "a written index": ({"Unnamed: 0": np.arange(8) * 3}, "ids or times: Unnamed: 0"),
    "row numbers": ({"which": np.arange(1, 9)}, "ids or times: which"),
    "ids": ({"run_id": 7, "trialId": 8, "uuid": 9, "Index": 4}, "ids or times: run_id, trialId, uuid, Index"),
    "times": (
        {"train_time": 1.5, "seconds": 3, "created_at": 5, "_runtime": 9},
        "times: train_time, seconds, created_at",
    ),
    "another seed": ({"data_seed": 3}, "ids or times: data_seed"),
    "true or false": ({"converged": [True, False] * 4}, "true or false: converged"),
}


@pytest.mark.parametrize("name", NO_MEASURES)
def test_ids_times_and_truth_values_are_no_measures_unless_asked_for(table, tmp_path, name):
    columns, told = NO_MEASURES[name]
    found = read(table.assign(**columns), tmp_path)
    assert found.measures == ["m"]
    note = next(note for note in found.notes if note.startswith("measures: m ("))
    assert told in note and note.endswith("; name them under --measures to use them)")
    assert read(table.assign(**columns), tmp_path, measures=list(columns)).measures == list(columns)


def test_names_of_measures_are_not_taken_for_ids(table, tmp_path):
    names = ["sharpness_index", "valid", "grid_loss", "timeless", "epochs_to_loss", "num_params", "update_norm"]
    assert read(table.assign(**dict.fromkeys(names, 2.5)), tmp_path).measures == ["m", *names]


@pytest.mark.parametrize("label", ["mean", "Average", " std "])
def test_a_summary_row_is_warned_about(table, tmp_path, label):
    row = {"defense": label, "batch": "", "seed": "", "gap": 3.5, "m": 1}
    found = read(pd.concat([table, pd.DataFrame([row])]), tmp_path)
    told = f"warning: column defense: row 9 ({label.strip()}): a summary of the others, not a model? If so, remove it"
    assert told in found.notes


def test_a_summary_row_of_an_index_is_warned_about(table, tmp_path):
    both = pd.concat([table, table[["gap", "m"]].agg(["mean", "max"])])
    both.to_csv(tmp_path / "a.csv")
    found = read_models(tmp_path / "a.csv", axes=["defense"], outcome="gap", seed_column="m")
    (told,) = [note for note in found.notes if note.startswith("warning: ")]
    assert told.startswith("warning: the column without a name: row 9 (mean), row 10 (max): a summary of the others")


def test_a_row_of_means_without_a_name_is_warned_about(table, tmp_path):
    row = {"defense": "", "batch": "", "seed": "", "gap": table["gap"].mean(), "m": 1}
    told = "warning: the outcome of the row without settings is the mean of all others (0.875)"
    assert any(told in note for note in read(pd.concat([table, pd.DataFrame([row])]), tmp_path).notes)
    bare = read(pd.concat([table, pd.DataFrame([{**row, "gap": 1.7}])]), tmp_path)
    assert not any("warning" in note for note in bare.notes)


def test_a_setting_called_mean_is_no_summary(table, tmp_path):
    found = read(table.replace({"AT": "mean", "MART": "max"}), tmp_path)
    assert not any("warning" in note for note in found.notes)


@pytest.mark.parametrize(("one", "other"), [("AT", "at"), ("Fast AT", "fast  at"), ("true", "True")])
def test_values_that_differ_in_capitals_alone_are_warned_about(table, tmp_path, one, other):
    names = [one] * 4 + [other] * 4
    found = read(table.assign(defense=names), tmp_path)
    assert f"warning: column defense: {one!r} and {other!r} are taken as different values" in found.notes
    assert set(found.rows["defense"]) == {one, other}
