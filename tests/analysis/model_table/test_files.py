"""Files of tables as people have them: read as what they are, or refused in a line that says what to do."""

import bz2
import gzip
import itertools
import lzma

import numpy as np
import pandas as pd
import pytest

from robustgap.analysis.__main__ import main
from robustgap.analysis.model_table import ModelTable, read_models

OPTIONS = {"axes": ["defense", "größe"], "outcome": "gap", "seed_column": "seed"}


@pytest.fixture
def table() -> pd.DataFrame:
    rows = itertools.product(["AT", "MART"], ["klein", "groß"], ["0", "1"])
    table = pd.DataFrame(rows, columns=["defense", "größe", "seed"])
    return table.assign(gap=np.arange(len(table)) / 4, ce=np.arange(len(table)) ** 2 / 7)


def read(path) -> ModelTable:
    return read_models(path, **OPTIONS)


WRITTEN = {  # how a file is made of the table's CSV, and what is said about it
    "gzip.csv.gz": (lambda csv: gzip.compress(csv.encode()), None),
    "gzip of any name.csv": (lambda csv: gzip.compress(csv.encode()), None),
    "UTF-16.csv": (lambda csv: csv.encode("utf-16"), "the file is read as UTF-16"),
    "UTF-16 the other way.csv": (lambda csv: b"\xfe\xff" + csv.encode("utf-16-be"), "the file is read as UTF-16"),
    "Latin-1.csv": (lambda csv: csv.encode("latin-1"), "the file is not UTF-8 and is read as Latin-1"),
    "byte order mark.csv": (lambda csv: csv.encode("utf-8-sig"), None),
    "semicolons.csv": (lambda csv: csv.replace(",", ";").encode(), "cells are separated by semicolons"),
    "tabs.tsv": (lambda csv: csv.replace(",", "\t").encode(), "cells are separated by tabs"),
    "Excel's first line.csv": (lambda csv: ("sep=;\r\n" + csv.replace(",", ";")).encode(), "separated by semicolons"),
    "blank rows of a sheet.csv": (lambda csv: (csv + ",,,,\n , ,,,\n").encode(), None),
    "old Macs.csv": (lambda csv: csv.replace("\n", "\r").encode(), None),
    "Excel's Unicode text.txt": (lambda csv: csv.replace(",", "\t").encode("utf-16"), "the file is read as UTF-16"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_table_in_any_dress(table, tmp_path, name):
    write, told = WRITTEN[name]
    table.to_csv(tmp_path / "plain.csv", index=False, lineterminator="\n")
    (tmp_path / name).write_bytes(write((tmp_path / "plain.csv").read_text(encoding="utf-8")))
    plain, found = read(tmp_path / "plain.csv"), read(tmp_path / name)
    pd.testing.assert_frame_equal(found.rows, plain.rows)
    extra = [note for note in found.notes if note not in plain.notes]
    assert (told is None and extra == []) or any(told in note for note in extra)


@pytest.mark.parametrize("name", ["a.parquet", "parquet by another name.csv"])
def test_parquet_is_known_by_its_content_and_keeps_its_index(table, tmp_path, name):
    table.to_csv(tmp_path / "plain.csv", index=False)
    table.set_index(["defense", "größe"]).to_parquet(tmp_path / name)
    pd.testing.assert_frame_equal(read(tmp_path / name).rows, read(tmp_path / "plain.csv").rows)


REFUSED = {
    "book.xlsx": (
        lambda csv: b"PK\x03\x04" + csv,
        "an Excel workbook or a zip archive, wanted CSV or parquet: save",
    ),
    "old book.xls": (
        lambda csv: b"\xd0\xcf\x11\xe0" + csv,
        "an old Excel workbook, wanted CSV or parquet: save",
    ),
    "a.csv.bz2": (bz2.compress, "a file compressed by bzip2, wanted CSV or parquet: unpack it first"),
    "a.csv.xz": (lzma.compress, "a file compressed by xz, wanted CSV or parquet: unpack it first"),
    "a.json": (lambda csv: b'[{"defense": "AT"}]', "found JSON, wanted CSV or parquet: write the table as CSV"),
    "cut.csv.gz": (lambda csv: gzip.compress(csv)[:-9], "found no readable gzip (cut short?)"),
    "UTF-16 without a mark.csv": (lambda csv: csv.decode().encode("utf-16-le"), "found bytes that are not text"),
    "UTF-32.csv": (lambda csv: csv.decode().encode("utf-32"), "found bytes that are not text"),
    "UTF-16 cut short.csv": (lambda csv: csv.decode().encode("utf-16")[:-1], "found no readable UTF-16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused_with_what_to_do(table, tmp_path, capsys, name):
    spoil, told = REFUSED[name]
    (tmp_path / name).write_bytes(spoil(table.to_csv(index=False).encode()))
    given = ["--axes", "defense,größe", "--outcome", "gap", "--seed-column", "seed", "--out", str(tmp_path / "out")]
    for command in ("correlate", "claims", "statistics"):
        assert main([command, str(tmp_path / name), *given]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: {tmp_path / name}: ") and told in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_packed_parquet_is_refused(table, tmp_path):
    table.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    with pytest.raises(ValueError, match="found a compressed parquet file, wanted an uncompressed one: unpack"):
        read(tmp_path / "a.parquet.gz")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_later_of_two_columns_of_one_name_is_renamed(table, tmp_path, kind):
    """Also where its new name is taken."""
    wide = pd.concat([table, table[["ce"]] * 2, table[["ce"]].set_axis(["ce.2"], axis=1) * 3], axis=1)
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        wide.to_csv(path, index=False)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrays = [pa.array(wide.iloc[:, place]) for place in range(wide.shape[1])]
        pq.write_table(pa.Table.from_arrays(arrays, names=list(wide.columns)), path)
    found = read(path)
    assert found.measures == ["ce", "ce.3", "ce.2"]
    assert "columns of one name (ce): the later ones are renamed to ce.3" in found.notes
    for name, times in {"ce": 1, "ce.3": 2, "ce.2": 3}.items():
        np.testing.assert_allclose(found.rows[name], times * table["ce"])


def test_a_second_column_of_the_outcome_or_an_axis_is_no_measure_by_itself(table, tmp_path):
    """It is that column again; a rank correlation of 1 would say nothing."""
    pd.concat([table, table[["gap", "seed"]]], axis=1).to_csv(tmp_path / "a.csv", index=False)
    found = read(tmp_path / "a.csv")
    assert found.measures == ["ce"]
    assert "columns of one name (gap, seed): the later ones are renamed to gap.2, seed.2" in found.notes
    assert read_models(tmp_path / "a.csv", **OPTIONS, measures=["gap.2"]).measures == ["gap.2"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_setting_without_a_value_is_a_value_of_its_own(table, tmp_path, kind):
    """The models without any setting stay in the grid: every cell of psi has both its models."""
    bare = table.replace({"AT": None, "klein": None})
    bare.to_csv(tmp_path / "a.csv", index=False) if kind == "csv" else bare.to_parquet(tmp_path / "a.parquet")
    given = ["--axes", "defense,größe", "--outcome", "gap", "--seed-column", "seed", "--draws", "5"]
    assert main(["correlate", str(tmp_path / f"a.{kind}"), *given, "--out", str(tmp_path / "out")]) == 0
    found = pd.read_csv(tmp_path / "out/correlations.csv", keep_default_na=False)
    found = found[found["kind"] == "measure"]
    psi = found[(found["statistic"] == "psi") & (found["given_axis"] == "")]
    assert psi[["n", "undefined"]].to_numpy(int).tolist() == [[4, 0]] * 2
    assert set(found.loc[found["statistic"] == "pi", "value"]) == {"", "(empty)", "MART", "groß"}


@pytest.mark.parametrize("word", ["#N/A", "<NA>", "#n/a", " "])
def test_words_for_no_setting_are_empty_cells(table, tmp_path, word):
    table.replace({"klein": word}).to_csv(tmp_path / "a.csv", index=False)
    found = read(tmp_path / "a.csv")
    assert set(found.rows["größe"]) == {"(empty)", "groß"}
    assert "column größe: 4 empty cells are taken as the value (empty)" in found.notes
