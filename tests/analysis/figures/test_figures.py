"""All figures: found in order, drawn on usual and on odd ledgers, from tables that fit, and written without torch."""

import re
import shutil
import subprocess
import sys

import ledgers
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from ledger_cases import CASES
from trees import ROOT

from robustgap.analysis import figures
from robustgap.analysis.__main__ import main
from robustgap.analysis.figures import _style
from robustgap.analysis.files import write_csv
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.statistics import Statistics, read_statistic
from robustgap.analysis.statistics_folder import write_statistics

SMALL = {"defense": ["AT", "TRADES"]}


def test_each_figure_file_is_found_in_reading_order():
    files = {file.stem for file in (ROOT / "analysis" / "figures").glob("[!_]*.py")}
    assert set(figures.names()) == files
    orders = [figures.module(name).ORDER for name in figures.names()]
    assert orders == sorted(set(orders))


@pytest.mark.parametrize("name", figures.names())
@pytest.mark.parametrize("case", CASES)
def test_every_figure_draws_on_every_ledger(case, name, statistics_of):
    statistics = statistics_of(case)
    figure = figures.module(name).draw(statistics)
    with mpl.rc_context(_style.STYLE):
        figure.draw_without_rendering()
    assert len(figure.axes) >= 1
    data = figures.module(name).data(statistics)
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert len(data) > 0 or "no " in words or "too few" in words  # an empty figure says why
    caption = figures.caption(name, statistics)
    assert "{" not in caption and f"{len(statistics.models)}" in caption


def test_a_figure_draws_a_ledger_as_it_draws_its_statistics(tmp_path):
    ledger = CASES["four_models"](tmp_path / "ledger")
    drawn = [figures.module("heatmap").draw(source) for source in (ledger, Statistics(ledger))]
    one, two = ([text.get_text() for axes in figure.axes for text in axes.texts] for figure in drawn)
    assert one == two and len(one) > 0


def test_statistics_taken_from_a_folder_equal_those_computed(statistics_of, tmp_path):
    computed = statistics_of("one_axis")
    write_statistics(computed, tmp_path)
    read = Statistics(Ledger.load(computed.ledger.path), tmp_path)
    for name in computed.names:
        options = {"check_dtype": False, "obj": name}
        pd.testing.assert_frame_equal(read.table(name), computed.table(name).replace({pd.NA: np.nan}), **options)


def test_the_value_na_of_an_axis_survives_a_csv(statistics_of, tmp_path):
    table = statistics_of("one_axis").table("correlations").assign(value="NA")
    write_csv(table, tmp_path / "correlations.csv")
    assert set(read_statistic(tmp_path, "correlations")["value"]) == {"NA"}


def test_statistics_of_another_ledger_are_refused(statistics_of, tmp_path):
    ledger, path = statistics_of("usual").ledger, tmp_path / "correlations.csv"
    table = statistics_of("usual").table("correlations")
    with pytest.raises(FileNotFoundError, match=r"correlations\.csv: no such file"):
        Statistics(ledger, tmp_path)
    write_csv(table.query("measure != 'num_params'"), path)
    with pytest.raises(ValueError, match="no rows for measure num_params"):
        Statistics(ledger, tmp_path)
    write_csv(table.drop(columns="low"), path)
    with pytest.raises(ValueError, match="wanted column low"):
        Statistics(ledger, tmp_path)
    write_csv(table, path)
    with pytest.raises(FileNotFoundError, match=r"findings\.json: no such file"):
        Statistics(ledger, tmp_path)


def test_statistics_of_another_ledger_with_the_same_measures_are_refused(tmp_path, capsys):
    """By `tables` and `report` in one line, that names the file; a copy of the ledger elsewhere is the same one."""
    one, other = (
        ledgers.make(tmp_path / f"ledger{seed}", SMALL, checkpoints=("last",), seed=seed, troubles=False)
        for seed in (0, 1)
    )
    write_statistics(Statistics(one), tmp_path / "numbers")
    shutil.copytree(one.path, tmp_path / "a copy")
    assert list(Statistics(Ledger.load(tmp_path / "a copy"), tmp_path / "numbers").table("correlations")["measure"])
    for command, more in (("tables", []), ("figures", []), ("report", ["--figures", str(tmp_path)])):
        line = [command, str(other.path), "--statistics", str(tmp_path / "numbers"), *more]
        assert main([*line, "--out", str(tmp_path / "out")]) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"error: {tmp_path}/numbers/findings.json: found statistics of another ledger (")
        assert f"wanted those of {other.path} (" in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "column", "wanted"),
    [("correlations", "estimate", "wanted a number"), ("simpson", "resolved", "wanted True or False")],
)
def test_text_in_a_column_of_numbers_is_told_with_its_place(statistics_of, tmp_path, name, column, wanted):
    table = statistics_of("one_axis").table(name).astype({column: object})
    table.loc[2, column] = "0.3.1"
    write_csv(table, tmp_path / f"{name}.csv")
    told = rf"{name}\.csv, row 3: found '0\.3\.1' in column '{column}', {wanted}"
    with pytest.raises(ValueError, match=told):
        read_statistic(tmp_path, name)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"measure,n\n\xff,1\n", "noise.csv: found bytes that are not UTF-8, wanted a CSV: "),
        (b"measure,n\na,1\nb,1,2\n", "noise.csv, row 2: found 3 cells, wanted 2"),
        (b"measure,n\na,1\nb\n", "noise.csv, row 2: found 1 cell, wanted 2"),
    ],
)
def test_a_statistic_that_is_no_csv_is_named(tmp_path, content, told):
    (tmp_path / "noise.csv").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/{told}")):
        read_statistic(tmp_path, "noise")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def draw(:\n", "br.py, line 1: found invalid syntax, wanted Python"),
        ("ORDER = 99\n", "analysis/figures/br.py: found no draw, wanted draw, data, TITLE, CAPTION, ORDER"),
        (
            "from matplotlib.figure import Figure\nTITLE, CAPTION, ORDER, data = '', '', 99, None\n"
            "def draw(statistics):\n    return Figure()\n",
            "analysis/figures/br.py: found a figure without a layout engine, wanted Figure(",
        ),
    ],
)
def test_a_figure_that_is_written_wrongly_is_told_in_one_line(tmp_path, monkeypatch, statistics_of, code, told):
    (tmp_path / "br.py").write_text(code)
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "robustgap.analysis.figures.br", raising=False)
    with pytest.raises((ValueError, LookupError), match=re.escape(told)):
        figures.draw_one("br", statistics_of("one_axis"), tmp_path)


def test_the_command_writes_each_figure_without_torch_and_twice_the_same(tmp_path):
    """Byte-identical from two processes; fonts inside the PDF as TrueType, none needed by the SVG."""
    ledger = CASES["four_models"](tmp_path / "ledger")
    code = (
        "import sys; from robustgap.analysis.__main__ import main; code = main(sys.argv[1:]);"
        "found = {'torch', 'training', 'measures', 'workflow'} & set(sys.modules);"
        "sys.exit(f'imported {found}' if found else code)"
    )
    command = [sys.executable, "-c", code, "figures", str(ledger.path), "--out", str(tmp_path / "one")]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    written = figures.draw_all(Statistics(ledger), tmp_path / "two")
    wanted = {f"{name}.{kind}" for name in figures.names() for kind in ("pdf", "svg", "png", "csv")}
    assert {path.name for path in written} == wanted == {path.name for path in (tmp_path / "one").iterdir()}
    for path in written:
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes(), path.name
    for name in figures.names():
        write_csv(figures.module(name).data(Statistics(ledger)), tmp_path / "data.csv")
        assert (tmp_path / "two" / f"{name}.csv").read_bytes() == (tmp_path / "data.csv").read_bytes()
        assert b"/FontFile2" in (tmp_path / "two" / f"{name}.pdf").read_bytes()
        assert "<text" not in (tmp_path / "two" / f"{name}.svg").read_text(encoding="utf-8")
