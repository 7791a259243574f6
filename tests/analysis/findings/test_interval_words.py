"""Single and family-wise intervals never stand under one name: every text that shows an interval says which it is."""

import json
import re
from html import unescape
from pathlib import Path

import ledger_cases
import pytest
from report_pages import draw_stand_ins

from robustgap.analysis import figures, report
from robustgap.analysis.findings.verdicts import verdict_sentence, why_unresolved
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.statistics import Statistics, read_statistic
from robustgap.analysis.statistics_folder import write_statistics
from robustgap.analysis.tables import views
from robustgap.analysis.verdicts.claims import RESULT as CLAIM
from robustgap.analysis.verdicts.statements import RESULT as STATEMENT

BRACKET = re.compile(r"\[[+−]?\d\.\d+, [+−]?\d\.\d+\]")
NUMBERED = re.compile(r"95 ?% interval|interval of (?:tau|τ|an increment)|single interval")
NAMES = ("single", "family-wise", "of this row alone")


def named(text: str) -> bool:
    """Whether a text without intervals, or with intervals that are called by their kind."""
    return any(name in text for name in NAMES) or not (BRACKET.search(text) or NUMBERED.search(text))


@pytest.fixture(scope="module", params=["digits_size", "four_models", "robustbench"])
def made(request, tmp_path_factory) -> tuple[Ledger, Path]:
    """A ledger of 32 configurations, and two where hardly anything has an interval, with their statistics."""
    folder = tmp_path_factory.mktemp(request.param)
    case = {**ledger_cases.CASES, "digits_size": lambda path: ledger_cases.digits_size(path, columns=8)}
    ledger = case[request.param](folder / "ledger")
    write_statistics(Statistics(ledger), folder / "analysis")
    return ledger, folder


def test_sentences_and_reasons_name_their_intervals(made):
    ledger, folder = made
    told = json.loads((folder / "analysis" / "findings.json").read_text())["sentences"]
    claims = read_statistic(folder / "analysis", "claims")
    own = claims[claims["kind"] == "measure"]
    told += [*claims["reason"], *why_unresolved(own), verdict_sentence(own, own["measure"])]
    assert not [text for text in told if not named(text)]
    assert sum(bool(BRACKET.search(text)) for text in told) >= (5 if len(ledger.axes) > 1 else 0)


def test_captions_tables_and_the_page_name_their_intervals(made):
    ledger, folder = made
    statistics = Statistics(ledger, folder / "analysis")
    for name in figures.names():
        assert named(figures.caption(name, statistics)), name
    for view in views(statistics).values():
        for column in view.columns:
            assert column.title.endswith((" [single]", " [family-wise]")) == column.interval
            assert all(("_family_" in end) == column.family for end in column.ends)
        for kind in {column.family for column in view.columns if column.interval}:
            assert f"{'family-wise' if kind else 'single'}: " in view.look.split("In brackets: ")[1]
    draw_stand_ins(ledger, folder / "figures")
    report.write(statistics, folder / "figures", folder / "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    blocks = re.findall(r"<(p|li|dd|figcaption|h2|h3)\b[^>]*>(.*?)</\1>", page, re.DOTALL)
    texts = [unescape(re.sub(r"<[^>]+>", "", text)) for _, text in blocks]
    assert len(texts) > 50 and not [text for text in texts if not named(text)]


def test_what_a_p_value_is_corrected_for_is_in_its_name():
    """q of a false discovery rate may be below p of a family: under one name that would look like a fault."""
    ends = [name for name in [*CLAIM, *STATEMENT] if name.rsplit("_", 1)[-1] in ("p", "q")]
    assert ends and all(name.endswith(("family_p", "fdr_q")) for name in ends)
