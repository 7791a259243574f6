"""The report holds every figure, measure and flagged model, fetches nothing, and shows foreign names as plain text."""

import html
import io
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest
from ledger_cases import CASES, NASTY
from report_pages import PNG, Page, downloads, draw_stand_ins, embedded, page_of

from robustgap.analysis import figures, labels, report
from robustgap.analysis.__main__ import main
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.report import embedding, losses
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics_folder import contents, write_statistics


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(ledger, folder) of a case: folder holds ledger/, figures/ (stand-ins), analysis/ and report.html."""
    ready = {}

    def get(case: str) -> tuple[Ledger, Path]:
        if case not in ready:
            folder = tmp_path_factory.mktemp(case)
            ledger = CASES[case](folder / "ledger")
            draw_stand_ins(ledger, folder / "figures")
            write_statistics(Statistics(ledger), folder / "analysis")
            report.write(Statistics(ledger, folder / "analysis"), folder / "figures", folder / "report.html")
            ready[case] = ledger, folder
        return ready[case]

    return get


@pytest.mark.parametrize("case", CASES)
def test_every_ledger_has_a_report_that_fetches_nothing(case, made):
    page = page_of(made(case)[1])
    links = [attributes.get(key, "") for _, attributes in page.tags for key in ("href", "src") if key in attributes]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert not any("src" in script for script in page.of("script")) and not page.of("link")
    assert "url(" not in (Path(report.__file__).parent / "report.css").read_text()
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links if link.startswith("#")} <= set(ids)


@pytest.mark.parametrize("case", CASES)
def test_every_figure_is_in_the_page_with_caption_alternative_text_and_data(case, made):
    ledger, folder = made(case)
    page, statistics = page_of(folder), Statistics(ledger, folder / "analysis")
    assert len(page.of("img")) == len(figures.names())
    data = downloads(page)
    for name, picture in zip(figures.names(), page.of("img"), strict=True):
        assert embedded(picture["src"]) == (folder / "figures" / f"{name}.svg").read_bytes()
        assert len(picture["alt"]) > 40
        assert figures.caption(name, statistics) in page.text
        assert data[f"{name}.csv"] == (folder / "figures" / f"{name}.csv").read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_every_measure_and_every_issue_is_a_row(case, made):
    ledger, folder = made(case)
    page = page_of(folder)
    summary = pd.read_csv(folder / "analysis" / "summary.csv", keep_default_na=False)
    assert summary.loc[summary["kind"] == "measure", "measure"].tolist() == ledger.columns
    for column in ledger.columns:
        assert labels.measure_label(column, ledger.columns) in page.text
    issues = pd.read_csv(folder / "analysis" / "issues.csv", keep_default_na=False, dtype=str)
    gone = ledger.runs.loc[ledger.runs["status"] != "finished", "model"]
    assert set(gone) <= set(issues["model"])
    for row in issues.itertuples():
        assert row.model in page.text and row.reason in page.text and row.issue.replace("_", " ") in page.text


def test_the_words_and_numbers_are_those_of_the_statistics(made):
    ledger, folder = made("usual")
    page = page_of(folder)
    found = report.read_json(folder / "analysis" / "findings.json")
    for sentence in found["sentences"]:
        assert sentence in page.text
    summary = pd.read_csv(folder / "analysis" / "summary.csv").set_index("measure")
    row = summary.loc["average_ce.adv"]
    for name, ends in (("tau", ("low", "high")), ("tau_rest", ("tau_rest_low", "tau_rest_high"))):
        assert labels.with_interval(row[name], *row[list(ends)]) in page.text
    assert "−, borne out" in page.text and "2026-01-01" in page.text and "0123456789" in page.text
    for axis in ledger.axes:
        assert ", ".join(ledger.values(axis)) in page.text


def test_a_card_shows_formula_proof_cost_and_reliability(made, tmp_path):
    ledger, folder = made("usual")
    entry = {"family": "output", "formula": "mean_i CE_i", "invariances": ["image order"], "defaults": {"draws": 10}}
    entry |= {
        "proof": ["test_average_ce_of_a_linear_model"],
        "summary": "Mean cross-entropy.",
        "paper": "Somebody, 2023",
    }
    catalogue = {**ledger.catalogue, "average_ce": {**ledger.catalogue["average_ce"], **entry}}
    described = replace(ledger, catalogue=catalogue)
    report.write(Statistics(described, folder / "analysis"), folder / "figures", tmp_path / "report.html")
    page, rows = page_of(tmp_path), pd.read_csv(folder / "analysis" / "reliability.csv")
    for words in (
        "mean_i CE_i",
        "Proof: 1 test test_average_ce_of_a_linear_model",
        "Defaults: draws 10.",
        "image order",
    ):
        assert words in page.text
    found = rows[rows["measure"] == "average_ce"].set_index("statistic")[["estimate", "low", "high"]]
    cells = [labels.with_interval(*found.loc[statistic]) for statistic in ("seeds", "images")]
    assert f"0.2 4 {cells[0]} {cells[1]}" in page.text


def test_a_form_of_tau_without_any_value_has_no_column(made):
    usual, foreign = (page_of(made(case)[1]) for case in ("usual", "robustbench"))
    assert "τ, without robust floor" in usual.text and "τ, disjoint images" in foreign.text
    assert "τ, without robust floor" not in foreign.text
    told = "No model, or every model, is flagged diverged, outlying, robust floor, catastrophic overfitting"
    assert f"{told}, so there is no such column." in foreign.text
    assert "is flagged diverged, outlying, catastrophic overfitting, so there is no such column." in usual.text


def test_reasons_that_differ_in_numbers_alone_are_told_once():
    reasons = "2 x the lowest is 0.503; 88 x not above 0, where 1/gamma^2 has no meaning; 1 x the lowest is 1.2"
    told = "3 x the lowest is 0.503 (or another number); 88 x not above 0, where 1/gamma^2 has no meaning"
    assert losses.merged_reasons(reasons) == told
    assert losses.merged_reasons("4 x one; two") == "4 x one; two"


def test_headings_do_not_skip_a_level_and_every_section_has_one(made):
    levels = [int(tag[1]) for tag, _ in page_of(made("usual")[1]).tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_foreign_names_are_text_not_markup(made):
    source = (made("nasty_names")[1] / "report.html").read_text(encoding="utf-8")
    outside = re.sub(r"<script.*?</script>", "", source, flags=re.DOTALL)
    assert NASTY not in source and "<b>" not in outside
    assert html.escape(NASTY, quote=False).replace('"', "&#34;") in outside
    assert NASTY in Page(source).text
    inside = re.search(r'<script type="application/json" id="explore-data">(.*?)</script>', source, re.DOTALL)
    assert NASTY in json.loads(inside[1])["settings"]["defense"]


def test_exclusions_are_told_with_their_reasons(made, tmp_path):
    ledger, folder = made("usual")
    rule = {"where": {"defense": ["Standard", "AT"], "awp": True}, "reason": "no adversary to perturb", "count": 4}
    ledger = Ledger(**{**vars(Ledger.load(ledger.path)), "study": {**ledger.study, "excluded": [rule]}})
    report.write(Statistics(ledger, folder / "analysis"), folder / "figures", tmp_path / "report.html")
    assert "defense = Standard or AT, awp = true: no adversary to perturb (4 trainings)" in page_of(tmp_path).text


def test_heavy_pictures_and_large_tables_are_embedded_smaller(made, monkeypatch):
    ledger, folder = made("four_models")
    monkeypatch.setattr(embedding, "HEAVY", 10)
    monkeypatch.setattr(embedding, "LARGE", 10)
    page = Page(report.build(Statistics(ledger, folder / "analysis"), folder / "figures"))
    assert {embedded(picture["src"]) for picture in page.of("img")} == {PNG}
    offered = {link["download"] for link in page.of("a") if "download" in link}
    assert {f"{name}.csv.gz" for name in figures.names()} <= offered
    assert not any(name.endswith(".csv") for name in offered)


@pytest.mark.parametrize("case", CASES)
def test_every_statistic_and_every_table_can_be_taken_from_the_page(case, made):
    """One archive with all that the folder of statistics holds, and with each table of the page as CSV and LaTeX."""
    ledger, folder = made(case)
    page = page_of(folder)
    data = downloads(page)
    held = ZipFile(io.BytesIO(data[f"{ledger.name}-tables.zip"]))
    numbers = {f"statistics/{file.name}": file.read_bytes() for file in (folder / "analysis").iterdir()}
    assert {name: held.read(name) for name in held.namelist() if name.startswith("statistics/")} == numbers
    tables = {name.removeprefix("tables/") for name in held.namelist() if name.startswith("tables/")}
    shown = {element["id"].replace("-", "_") for tag, element in page.tags if element.get("class") == "table"}
    assert tables == {f"{name}.{kind}" for name in shown for kind in ("csv", "tex")} and len(shown) == 18
    assert all(held.read(f"tables/{name}") == data[name] for name in tables)
    assert all(what in page.text for what in contents(Statistics(ledger)).values())


def test_a_missing_file_is_one_clear_line(made, tmp_path, capsys):
    ledger, folder = made("four_models")
    arguments = [
        "report",
        str(ledger.path),
        "--statistics",
        str(folder / "analysis"),
        "--out",
        str(tmp_path / "r.html"),
    ]
    assert main([*arguments, "--figures", str(folder / "figures")]) == 0
    assert (tmp_path / "r.html").read_bytes() == (folder / "report.html").read_bytes()
    capsys.readouterr()
    assert main([*arguments, "--figures", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "robustness.png: no such file" in told and told.count("\n") == 1
