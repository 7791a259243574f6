"""`python -m robustgap.analysis correlate` on anybody's table: what it understands, and one clear line for what it
cannot."""

import itertools

import numpy as np
import pandas as pd
import pytest

from robustgap.analysis.__main__ import main
from robustgap.analysis.model_table import read_models

RESULT = "measure,kind,statistic,axis,value,given_axis,given_value,estimate,low,high,n,undefined"


@pytest.fixture
def table() -> pd.DataFrame:
    """24 models: 3 x 2 x 2 settings x 2 seeds, an outcome, two measures and a column of names."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        list(itertools.product(["AT", "TRADES", "MART"], [32, 64], [0.1, 0.2], [0, 1])),
        columns=["defense", "batch", "lr", "seed"],
    )
    gap = rng.standard_normal(len(table))
    names = [f"{place}e5" if place == 3 else f"model {place}" for place in range(len(table))]
    return table.assign(gap=gap, ce=-gap, noise=rng.standard_normal(len(table)), name=names)


DRAWS = {"correlate": ["--draws", "50"], "claims": []}  # of the commands that read tables


def ask(command: str, path, out, *more: str) -> int:
    options = ["--axes", "defense,batch,lr", "--outcome", "gap", "--out", str(out), *DRAWS[command], *more]
    return main([command, str(path), *options])


def correlate(path, out, *more: str) -> int:
    return ask("correlate", path, out, *more)


def read(out) -> pd.DataFrame:
    return pd.read_csv(out / "correlations.csv", keep_default_na=False)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_any_table_gives_the_promised_columns(table, tmp_path, capsys, kind):
    path = tmp_path / f"mine.{kind}"
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
    assert correlate(path, tmp_path / "out", "--seed-column", "seed") == 0
    assert "measures: ce, noise (no numbers: name)" in capsys.readouterr().out
    found = read(tmp_path / "out")
    assert ",".join(found.columns) == RESULT
    assert set(found["measure"]) == {"ce", "noise", "random number", "fit of the settings"}
    rows = found[found["measure"] == "ce"]
    assert rows.loc[rows["statistic"] == "tau", "estimate"].astype(float).tolist() == [-1]
    detail = rows[(rows["statistic"] == "pi") & (rows["axis"] == "batch")]
    assert detail["value"].astype(str).tolist() == ["", "32", "64"]
    detail = rows[(rows["statistic"] == "psi") & (rows["axis"] == "lr")]
    assert detail["given_axis"].tolist() == ["", *["defense"] * 3, *["batch"] * 2]


def test_csv_and_parquet_give_the_same_statistics(table, tmp_path):
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    for kind in ("csv", "parquet"):
        assert correlate(tmp_path / f"a.{kind}", tmp_path / kind, "--seed-column", "seed") == 0
    assert (tmp_path / "csv/correlations.csv").read_text() == (tmp_path / "parquet/correlations.csv").read_text()


def test_missing_values_are_missing_and_settings_are_text(table, tmp_path):
    table = table.astype({"ce": object, "batch": object})
    table.loc[0, "ce"], table.loc[1, "ce"], table.loc[2, "ce"] = "NaN", "", "inf"
    table.loc[table["batch"] == 32, "batch"] = ""
    table.to_csv(tmp_path / "a.csv", index=False)
    options = {"axes": ["defense", "batch", "lr"], "outcome": "gap", "measures": ["ce"], "seed_column": "seed"}
    read = read_models(tmp_path / "a.csv", **options)
    assert read.rows["ce"].isna().sum() == 3
    assert set(read.rows["batch"]) == {"(empty)", "64"}
    assert read.notes == [
        "column batch: 12 empty cells are taken as the value (empty)",
        "column ce: 1 infinite value counts as missing",
    ]


def test_an_all_missing_measure_is_said_and_undefined_not_an_error(table, tmp_path, capsys):
    table.assign(ce="").to_csv(tmp_path / "a.csv", index=False)
    assert correlate(tmp_path / "a.csv", tmp_path / "out", "--seed-column", "seed", "--measures", "ce,noise") == 0
    assert "measure ce: no value at all" in capsys.readouterr().out
    found = read(tmp_path / "out")
    rows = found[found["measure"] == "ce"]
    assert set(rows["estimate"]) == {""} and set(rows["n"]) == {0} and (rows["undefined"].astype(int) > 0).all()
    assert (found.loc[(found["measure"] == "noise") & (found["statistic"] == "tau"), "estimate"] != "").all()


def test_an_all_missing_measure_is_unresolved(table, tmp_path, capsys):
    table.assign(ce="").to_csv(tmp_path / "a.csv", index=False)
    assert ask("claims", tmp_path / "a.csv", tmp_path / "out", "--seed-column", "seed", "--measures", "ce,noise") == 0
    assert "measure ce: no value at all" in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "out" / "claims.csv").set_index("measure")
    assert found.loc["ce", ["verdict", "reason"]].tolist() == [
        "unresolved",
        "Tau is undefined: the measure is constant or has no values.",
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_parquet_cut_short_is_named_by_every_command(table, tmp_path, capsys, kind):
    table.to_parquet(tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / f"cut.{kind}").write_bytes(content[: len(content) // 2])
    for command in DRAWS:
        assert ask(command, tmp_path / f"cut.{kind}", tmp_path / "out") == 1
        error = capsys.readouterr().err
        assert f"cut.{kind}" in error and error.startswith("error: ") and error.count("\n") == 1


def test_models_without_outcome_are_left_out_and_said(table, tmp_path, capsys):
    table.assign(gap=table["gap"].where(table.index > 1)).to_csv(tmp_path / "a.csv", index=False)
    assert correlate(tmp_path / "a.csv", tmp_path / "out", "--seed-column", "seed") == 0
    assert "outcome gap: 2 of 24 models have none and are left out" in capsys.readouterr().out


BAD = {
    "no such outcome": (lambda t: t.rename(columns={"gap": "gap_pgd"}), [], "'gap'; did you mean 'gap_pgd'?"),
    "no such axis": (
        lambda t: t.rename(columns={"batch": "batches"}),
        [],
        "axis column 'batch'; did you mean 'batches'?",
    ),
    "no such measure": (lambda t: t, ["--measures", "cee"], "measure column 'cee'; did you mean 'ce'?"),
    "no such seed": (lambda t: t.rename(columns={"seed": "Seed"}), [], "seed column 'seed'; did you mean 'Seed'?"),
    "constant outcome": (lambda t: t.assign(gap=2.5), [], "outcome column 'gap' has the one value 2.5, wanted"),
    "no outcome": (lambda t: t.assign(gap=""), [], "outcome column 'gap' has no value, wanted"),
    "text outcome": (lambda t: t.assign(gap="big"), [], "row 1: found 'big' in outcome column 'gap', wanted a number"),
    "axis with one value": (lambda t: t.assign(lr=0.1), [], "axis 'lr' has the one value '0.1', wanted at least two"),
    "same models twice": (
        lambda t: pd.concat([t, t.iloc[:3]]),
        [],
        "found 2 models with defense=AT, batch=32, lr=0.1, seed=0, wanted one",
    ),
    "text among numbers": (
        lambda t: t.assign(ce=t["ce"].astype(object).where(t.index != 4, "1,5")),
        [],
        "row 5: found '1,5' in measure column 'ce', wanted a number",
    ),
    "text measure": (lambda t: t, ["--measures", "name"], "row 1: found 'model 0' in measure column 'name'"),
    "no measure": (lambda t: t.drop(columns=["ce", "noise"]), [], "found no numeric column to be a measure"),
    "two roles": (lambda t: t, ["--measures", "gap"], "column 'gap' is named twice"),
    "no rows": (lambda t: t.iloc[:0], [], "found 0 rows, wanted one per model"),
}


@pytest.mark.parametrize("command", DRAWS)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_told_in_one_line_and_nothing_is_written(table, tmp_path, capsys, name, command):
    spoil, more, message = BAD[name]
    spoil(table).to_csv(tmp_path / "bad.csv", index=False)
    assert ask(command, tmp_path / "bad.csv", tmp_path / "out", "--seed-column", "seed", *more) == 1
    error = capsys.readouterr().err
    assert message in error and "bad.csv" in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


RAGGED = {
    "a cell too many in each row": (lambda lines: [lines[0], *(f"{line}," for line in lines[1:])], "row 1: found 9"),
    "a row cut short": (lambda lines: [*lines[:-1], ",".join(lines[-1].split(",")[:5])], "row 24: found 5 cells"),
    "an open quote": (lambda lines: [*lines[:3], '"' + lines[3], *lines[4:]], "found no readable CSV"),
}


@pytest.mark.parametrize("command", DRAWS)
@pytest.mark.parametrize("name", RAGGED)
def test_cells_never_slip_into_other_columns(table, tmp_path, capsys, name, command):
    spoil, message = RAGGED[name]
    (tmp_path / "bad.csv").write_text("\n".join(spoil(table.to_csv(index=False).splitlines())))
    assert ask(command, tmp_path / "bad.csv", tmp_path / "out", "--seed-column", "seed") == 1
    error = capsys.readouterr().err
    assert message in error and "bad.csv" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_row_index_blank_lines_and_a_byte_order_mark_are_no_data(table, tmp_path):
    table.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "b.csv").write_text("\ufeff" + table.to_csv().replace("\n", "\n\n"))
    options = {"axes": ["defense", "batch", "lr"], "outcome": "gap", "seed_column": "seed"}
    plain, other = (read_models(tmp_path / name, **options) for name in ("a.csv", "b.csv"))
    pd.testing.assert_frame_equal(plain.rows, other.rows)
    assert plain.measures == other.measures == ["ce", "noise"]


def test_without_a_seed_column_the_line_about_equal_models_names_the_option(table, tmp_path, capsys):
    table.to_csv(tmp_path / "a.csv", index=False)
    assert correlate(tmp_path / "a.csv", tmp_path / "out") == 1
    assert "--seed-column" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01\xff\xfe" * 50, b"PAR1" + b"x" * 40], ids=["empty", "binary", "half a parquet"]
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("command", DRAWS)
def test_an_unreadable_file_is_named(tmp_path, capsys, content, kind, command):
    path = tmp_path / f"bad.{kind}"
    path.write_bytes(content)
    assert ask(command, path, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert f"bad.{kind}" in error and error.count("\n") == 1
    assert ask(command, tmp_path / "none.csv", tmp_path / "out") == 1
    assert "none.csv: no such file" in capsys.readouterr().err
