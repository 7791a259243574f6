"""The tables that a reader is shown hold the numbers of the statistics, and their LaTeX is well-formed."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ledger_cases import CASES, NASTY

from robustgap.analysis.__main__ import main
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.statistics import Statistics, read_statistic
from robustgap.analysis.statistics_folder import write_statistics
from robustgap.analysis.tables import views
from robustgap.analysis.tables.latex import escape, to_latex
from robustgap.analysis.view import Column, View, cell, number_text, shown

CHOSEN = ("usual", "robustbench", "nothing_trained", "nasty_names")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(ledger, folder of statistics) of a case, each made once."""
    ready: dict[str, tuple[Ledger, Path]] = {}

    def get(case: str) -> tuple[Ledger, Path]:
        if case not in ready:
            folder = tmp_path_factory.mktemp(case)
            ready[case] = CASES[case](folder / "ledger"), folder / "analysis"
            write_statistics(Statistics(ready[case][0]), ready[case][1])
        return ready[case]

    return get


def cells_of(line: str) -> list[str]:
    """The cells of one row of a LaTeX table."""
    return re.split(r"(?<!\\)&", line.removesuffix(r"\\"))


def check_latex(text: str, columns: int) -> int:
    """Environments nest, braces balance, dollars pair, every row has all cells; returns the number of rows."""
    open_now: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        assert kind == "begin" or open_now.pop() == name
        open_now += [name] if kind == "begin" else []
    assert open_now == []
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)
    depth = np.cumsum([(letter == "{") - (letter == "}") for letter in bare])
    assert depth.min() >= 0 and depth[-1] == 0
    rows = 0
    for line in text.splitlines():
        assert len(re.findall(r"(?<!\\)\$", line)) % 2 == 0, line
        if line.endswith(r"\\") and not line.startswith((r"\caption", r"\multicolumn")):
            assert len(cells_of(line)) == columns, line
            rows += 1
        outside = re.sub(r"\$.*?\$", "", re.sub(r"\\.", "", line))
        assert line.startswith("%") or not set(outside) & set("#%_~^<>|"), line
    return rows


@pytest.mark.parametrize("case", CHOSEN)
def test_every_view_is_whole_and_its_latex_well_formed(case, made):
    ledger, folder = made(case)
    found = views(Statistics(ledger, folder))
    assert next(iter(found)) == "verdicts" and len(found) == 18
    for view in found.values():
        assert len(shown(view)) == len(view.frame) and view.look.endswith(".")
        assert ("In brackets: " in view.look) == any(column.interval for column in view.columns)
        assert any(column.name in ("n", "n_seeds", "n_model", "pairs") for column in view.columns), view.name
        rows = check_latex(to_latex(view, ledger.name), len(view.columns))
        assert rows == 2 + len(view.frame)  # the heading stands twice: first page, other pages
        for row in view.frame.to_dict("records"):
            for column in view.columns:
                told, _ = cell(row, column)
                assert "nan" not in told.split() and (column.form == "text" or told)
    for name in ("verdicts", "tau"):
        assert (found[name].frame["kind"] == "measure").sum() == len(ledger.columns)


def test_views_hold_the_numbers_of_the_statistics(made):
    ledger, folder = made("usual")
    found = views(Statistics(ledger, folder))
    partial = read_statistic(folder, "partial").set_index(["measure", "given_axis"])
    for row in found["partial"].frame.to_dict("records"):
        assert row["average_ce_low"] == partial["low"].get((row["measure"], "average_ce"), row["average_ce_low"]) or (
            np.isnan(row["average_ce_low"])
        )
    table = read_statistic(folder, "increments")
    one = table[(table["step"] == "measure") & (table["over"] == "settings") & (table["statistic"] == "increment")]
    one = one[(one["axis"] == "") & (one["learner"] == "trees")].set_index("measure")["estimate"]
    shown_ones = found["increments"].frame.set_index("measure")["settings_trees"]
    pd.testing.assert_series_equal(shown_ones.loc[one.index], one, check_names=False)
    strength = found["tau"].frame.query("kind == 'measure'")["tau"].abs().dropna()
    assert strength.is_monotonic_decreasing


def test_numbers_as_they_are_shown():
    assert [number_text(value, "+.3f") for value in (0.0004, -0.0004, -0.0012, np.nan)] == [
        "0.000",
        "0.000",
        "−0.001",
        "n/a",
    ]
    column = Column("x", "X", "+.2f", True)
    assert cell({"x": 0.5, "x_low": -0.001, "x_high": 1.0}, column) == ("+0.50 [−0.00, +1.00]", 0.5)
    assert cell({"x": -1e-17, "x_low": -2e-17, "x_high": 1e-17}, column) == ("0.00 [+0.00, +0.00]", -1e-17)
    assert cell({"x": 0.5, "x_low": np.nan, "x_high": np.nan}, column) == ("+0.50", 0.5)
    assert cell({"x": np.nan, "x_low": np.nan, "x_high": np.nan}, column)[0] == "n/a"


def test_every_character_is_escaped():
    assert escape(r"50 % of a_b & {c} \d") == r"50 \% of a\_b \& \{c\} \textbackslash{}d"
    assert escape("τ ≤ −1 ± 2²") == r"$\tau$ $\leq$ $-$1 $\pm$ 2$^2$"
    view = View(
        "v", NASTY, "Look.", (Column("a", NASTY), Column("b", "B", ".1f")), pd.DataFrame({"a": [NASTY], "b": [1]})
    )
    assert check_latex(to_latex(view, "a_b"), 2) == 3
    assert r"\label{tab:a-b-v}" in to_latex(view, "a_b")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on the PATH")
def test_latex_compiles(made, tmp_path):
    ledger, folder = made("nasty_names")
    body = "\n".join(to_latex(view, ledger.name) for view in views(Statistics(ledger, folder)).values())
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,longtable,textcomp}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{head}\n{body}\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_the_command_writes_csv_and_latex(made, tmp_path, capsys):
    ledger, folder = made("usual")
    arguments = ["tables", str(ledger.path), "--statistics"]
    assert main([*arguments, str(folder), "--out", str(tmp_path / "one")]) == 0
    names = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert names == sorted(f"{name}.{kind}" for name in views(Statistics(ledger, folder)) for kind in ("csv", "tex"))
    assert main([*arguments, str(tmp_path), "--out", str(tmp_path / "two")]) == 1
    assert "correlations.csv: no such file" in capsys.readouterr().err
