"""Reports by command: a study by its name, and a page with real figures."""

from ledger_cases import CASES
from report_pages import draw_stand_ins, page_of

from robustgap.analysis import figures, report
from robustgap.analysis.__main__ import main
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics_folder import write_statistics


def test_every_command_takes_a_study_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw_stand_ins(CASES["four_models"](tmp_path / "results" / "mine" / "ledger"), tmp_path / "drawn")
    made = ["--statistics", "numbers"]
    for command, more in (
        ("statistics", ["--out", "numbers"]),
        ("claims", ["--out", "claims"]),
        ("tables", [*made, "--out", "tables"]),
        ("figures", [*made, "--out", "figures"]),
        ("report", [*made, "--figures", "drawn", "--out", "report.html"]),
    ):
        assert main([command, "mine", *more]) == 0, command
        assert main([command, "other", *more]) == 1 and "other: found no ledger" in capsys.readouterr().err
    assert all((tmp_path / name).exists() for name in ("numbers", "claims", "tables", "figures", "report.html"))


def test_real_figures_make_a_page_of_moderate_size(tmp_path):
    ledger = CASES["nothing_trained"](tmp_path / "ledger")
    write_statistics(Statistics(ledger), tmp_path / "analysis")
    figures.draw_all(Statistics(ledger, tmp_path / "analysis"), tmp_path / "figures")
    report.write(Statistics(ledger, tmp_path / "analysis"), tmp_path / "figures", tmp_path / "report.html")
    assert len(page_of(tmp_path).of("img")) == len(figures.names())
    assert (tmp_path / "report.html").stat().st_size < 8e6
