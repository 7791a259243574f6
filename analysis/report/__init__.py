"""Builds the report of a study: a single HTML file that needs no other file and no network.

Text comes from `findings.json`, numbers from the other tables of the statistics folder, figures and their data from the
figures folder; everything is embedded. Each module of this folder gives its part of the page as `context`.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from robustgap.analysis.damage import set_aside_if_damaged
from robustgap.analysis.files import read_json, write_text
from robustgap.analysis.report import cards, explorer, headline, losses, provenance, sections, tables
from robustgap.analysis.statistics import FINDINGS, REQUESTED, Statistics
from robustgap.analysis.statistics_folder import file_name
from robustgap.analysis.tables import views

HERE = Path(__file__).parent


def build(statistics: Statistics, figures: str | Path) -> str:
    """The report as HTML text.

    statistics: of a ledger, from the folder written by `python -m robustgap.analysis statistics`; figures: folder
    written by `python -m robustgap.analysis figures` for this ledger. Raises FileNotFoundError or ValueError naming the
    file that is missing or malformed.
    """
    assert statistics.folder is not None, "reports are made from a folder of statistics"
    ledger, path = statistics.ledger, statistics.folder / file_name(FINDINGS)
    with set_aside_if_damaged(path, path.with_name(file_name(REQUESTED))):
        findings = read_json(path, ["sample", "gap", "strongest", "measures", "sentences", "without_flagged"])
    tables_shown = views(statistics)
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        css=(HERE / "report.css").read_text(encoding="utf-8"),
        script=(HERE / "report.js").read_text(encoding="utf-8"),
        study=ledger.name,
        interim=ledger.study.get("interim"),
        **headline.context(tables_shown["verdicts"], findings, ledger.name),
        **explorer.context(statistics),
        **sections.context(statistics, Path(figures), tables_shown),
        **tables.context(statistics, tables_shown),
        **losses.context(statistics),
        **cards.context(statistics),
        **provenance.context(statistics),
    )


def write(statistics: Statistics, figures: str | Path, out: str | Path) -> None:
    """Write the report to the file `out` (see `build`)."""
    write_text(build(statistics, figures), out)
