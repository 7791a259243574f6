"""A statistic is one file with its entry: rule, CSV, report, tables and their order follow from it."""

import subprocess
import sys
from graphlib import TopologicalSorter

import numpy as np
import pandas as pd
import pytest
from ledger_cases import CASES
from report_pages import draw_stand_ins, page_of
from trees import ROOT

from robustgap.analysis import report, statistics
from robustgap.analysis.report.sections import SECTIONS, VERDICTS
from robustgap.analysis.statistics import Statistics, entry, statistic_names
from robustgap.analysis.statistics_folder import write_statistics
from robustgap.analysis.tables import write_views
from robustgap.workflow import jobs

RANGE = '''
"""Range of each measure over the models."""

import pandas as pd

from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.view import COUNT, LABEL, Column, View


def compute(data: StudyData, summary: pd.DataFrame) -> pd.DataFrame:
    values = data.models[data.measures]
    rows = {"measure": data.measures, "first_family": summary["family"].iloc[0], "largest": values.max().to_numpy()}
    return pd.DataFrame({**rows, "n": values.notna().sum().to_numpy()})


def range_view(statistics: Statistics) -> View:
    rows = statistics.labelled(statistics.table("value_range"))
    columns = (LABEL, Column("largest", "largest", ".1f"), COUNT)
    return View("value_range", "Largest values", "What is large.", columns, rows)


STATISTIC = Statistic(
    asks="how large a measure gets",
    place=15,
    compute=compute,
    text=("measure", "first_family"),
    needs=("ledger",),
    after=("summary",),
    views=(range_view,),
    section="strength",
)
'''


def test_a_file_is_all_that_a_new_statistic_takes(tmp_path, monkeypatch):
    """In the rule's files, the folder, the tables, the section of the report and its archive; gone with its file."""
    before, ledger = statistic_names(), CASES["four_models"](tmp_path / "ledger")
    own = tmp_path / "analysis" / "statistics"
    own.mkdir(parents=True)
    (own / "value_range.py").write_text(RANGE, encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(statistics, "__path__", [*statistics.__path__, str(own)])
        patch.setattr(jobs, "ROOT", tmp_path)
        assert jobs.statistic_names() == ["value_range"]
        assert statistic_names() == [before[0], "value_range", *before[1:]]
        paths = write_statistics(Statistics(ledger), tmp_path / "out")
        assert {path.stem for path in paths} == {*before, "value_range", "findings"}
        read = Statistics(ledger, tmp_path / "out")
        wanted = ledger.models()[ledger.columns].max()
        assert read.table("value_range").set_index("measure")["largest"].to_dict() == pytest.approx(wanted.to_dict())
        assert tmp_path / "tables" / "value_range.tex" in write_views(read, tmp_path / "tables")
        draw_stand_ins(ledger, tmp_path / "figures")
        report.write(read, tmp_path / "figures", tmp_path / "report.html")
        page = page_of(tmp_path)
    assert "how large a measure gets" in page.text and "Largest values" in page.text
    place = [element.get("id", "") for _, element in page.tags]
    (shown,) = [number for number, name in enumerate(place) if name.endswith(("value_range", "value-range"))]
    assert place.index("section-strength") < shown < place.index("section-settings")
    assert statistic_names() == before
    sys.modules.pop(f"{statistics.__name__}.value_range")


def test_a_file_without_an_entry_is_named(tmp_path, monkeypatch):
    (tmp_path / "value_range.py").write_text("PLACE = 15\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(statistics, "__path__", [*statistics.__path__, str(tmp_path)])
        with pytest.raises(LookupError, match=r"statistics/value_range\.py: found no entry, wanted STATISTIC"):
            statistic_names()
    sys.modules.pop(f"{statistics.__name__}.value_range")


def test_the_workflow_lists_the_statistics_without_importing_them():
    assert set(jobs.statistic_names()) == set(statistic_names())
    code = "import sys; from robustgap.workflow.jobs import statistic_names; statistic_names();"
    code += "sys.exit(any(name in sys.modules for name in ('pandas', 'robustgap.analysis')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_every_entry_has_a_place_a_question_and_a_known_section():
    entries = [entry(name) for name in statistic_names()]
    places = [one.place for one in entries]
    assert places == sorted(set(places)) and all(one.asks for one in entries)
    known = {VERDICTS, *(section.name for section in SECTIONS)}
    assert all(one.section in known for one in entries if one.views)
    TopologicalSorter({name: entry(name).after for name in statistic_names()}).prepare()  # no circles
    for one in entries:
        assert set(one.after) <= set(statistic_names())
        assert "measure" in one.text or "measure" not in one.columns


def test_columns_of_text_are_told_by_the_entry(statistics_of, tmp_path):
    """What is not numbers is read back as it was: each such column is one of text, or of true and false."""
    computed = statistics_of("usual")
    for name in computed.names:
        table, one = computed.table(name), entry(name)
        if one.in_folder:
            other = [column for column in table if not pd.api.types.is_numeric_dtype(table[column].infer_objects())]
            other += [column for column in table if pd.api.types.is_bool_dtype(table[column])]
            undefined = [column for column in other if table[column].isna().all()]
            assert set(other) - set(undefined) <= {*one.text, *one.yes_no}, name
            assert set(one.columns) <= set(table), name


def test_an_unknown_statistic_is_named(statistics_of):
    with pytest.raises(LookupError, match="found 'claim', wanted one of claims, statements"):
        statistics_of("usual").table("claim")


def test_a_table_is_computed_once(statistics_of):
    one = statistics_of("usual")
    assert one.table("noise") is one.table("noise") and np.isfinite(one.table("noise")["estimate"]).any()
