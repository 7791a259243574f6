"""The benchmarks of measures and statistics run, and do not pass over values that differ. Times are not looked at."""

from dataclasses import replace

import pandas as pd
import pytest

from benchmarks import analysis as statistics
from benchmarks import measures as benchmark


def test_a_quick_benchmark_prints_a_row_for_each_measure_and_writes_it(tmp_path, capsys):
    asked = "average_ce,prob_margin,x_grad_norm,sotl,l2_dist"
    assert benchmark.main(["--quick", "--names", asked, "--out", str(tmp_path / "table.md")]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("# What measures cost") and (tmp_path / "table.md").read_text() + "\n" == told.out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.out.splitlines() if line[:2] == "| "]
    passes = {row[0]: (row[2], row[5]) for row in rows}
    # Alone it makes its own adversarial examples, 10 steps of 3 passes, and 8 passes look for gradient masking.
    assert passes["average_ce"] == ("40", "2")
    assert passes["prob_margin"] == ("40", "0")
    assert passes["x_grad_norm"] == ("44", "6")
    assert passes["sotl"] == passes["l2_dist"] == ("0", "0")
    # and 10 of the 24 images in every call, to see that the model gives a function of the image
    assert passes["**sum of all alone**"][0] == "**126**" and passes["**all together**"][0] == "**46**"
    assert "All values agree within 3 combined standard errors." in told.out


def cost(value: float, se: float) -> benchmark.Cost:
    row = {"measure": "a", "variant": "clean", "value": value, "se": se}
    return benchmark.Cost(1.0, 1.0, 1.0, pd.DataFrame([row]))


@pytest.mark.parametrize(
    ("alone", "together", "agree"),
    [
        ((1.0, 0.1), (1.4, 0.1), True),
        ((1.0, 0.1), (1.5, 0.1), False),
        ((1.0, float("nan")), (1.0005, float("nan")), True),
        ((1.0, float("nan")), (1.002, float("nan")), False),
        ((float("nan"), float("nan")), (float("nan"), float("nan")), True),
        ((float("nan"), float("nan")), (1.0, 0.1), False),
        ((1.0, 0.1), (float("nan"), float("nan")), False),
    ],
)
def test_values_that_differ_are_told(alone, together, agree):
    assert (benchmark.disagreements({"a": cost(*alone)}, cost(*together)) == []) == agree


def test_values_that_differ_end_the_benchmark_with_an_error(monkeypatch, capsys):
    measure = benchmark.measure

    def wrong(*arguments):
        alone, together, examples = measure(*arguments)
        return alone, replace(together, table=together.table.assign(value=together.table["value"] + 9)), examples

    monkeypatch.setattr(benchmark, "measure", wrong)
    assert benchmark.main(["--quick", "--names", "average_ce"]) == 1
    assert "average_ce (clean): " in capsys.readouterr().err


def test_a_quick_benchmark_of_the_statistics_finds_the_plain_way_to_agree(tmp_path, capsys):
    assert statistics.main(["--quick", "--out", str(tmp_path / "table.md")]) == 0
    told = capsys.readouterr().out
    assert told == (tmp_path / "table.md").read_text() + "\n"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines() if line[:2] == "| "]
    small, large = ([row for row in rows[1:] if len(row) == cells and row[0] != "part"] for cells in (7, 8))
    assert [row[0] for row in small] == [row[0] for row in large]
    assert {"tau", "Spearman", "psi", "pi", "conditional information", "verdicts"} < {row[0] for row in small}
    assert {(row[1], row[2]) for row in small} == {("112", "7"), ("112", "0")}
    assert {(row[1], row[2]) for row in large} == {("224", "2"), ("224", "0")}
    plain = {row[0]: float(row[-1]) for row in rows if len(row) == 6 and row[0] != "part"}
    assert plain.keys() == {"tau", "psi", "pi"} and max(plain.values()) < 1e-12


def test_statistics_that_differ_end_the_benchmark_with_an_error(monkeypatch, capsys):
    monkeypatch.setattr(statistics, "plain_tau", lambda x, y: 0.5)
    assert statistics.main(["--quick"]) == 1
    assert "error: tau differs by " in capsys.readouterr().err
