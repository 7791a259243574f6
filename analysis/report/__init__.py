"""Builds the report of a study: a single HTML file that needs no other file and no network.

Text comes from `findings.json`, numbers from the other tables of the statistics folder, figures and their data from the
figures folder; everything is embedded.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from robustgap.analysis import figures as figure_files
from robustgap.analysis.damage import made_anew
from robustgap.analysis.figures import _numbers
from robustgap.analysis.files import read_json, write_text
from robustgap.analysis.findings.beside import check_sentences
from robustgap.analysis.findings.verdicts import removal_sentence, verdict_sentence, why_unresolved, without_sentence
from robustgap.analysis.labels import measure_label, minus
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.models.baselines import MEASURE
from robustgap.analysis.ranks.bootstrap import FEWEST_BLOCKS, LEVEL
from robustgap.analysis.report import explorer
from robustgap.analysis.report.cards import cards
from robustgap.analysis.report.embedding import archive, file_link, link, picture
from robustgap.analysis.report.provenance import grid, provenance
from robustgap.analysis.report.sections import SECTIONS, Section
from robustgap.analysis.statistics.files import ASKED, HOLDS, read_text
from robustgap.analysis.tables import views
from robustgap.analysis.tables.latex import to_latex
from robustgap.analysis.view import View, cell, shown

OPEN_ROWS = 12  # longer lists of flagged models are collapsed


def figure_view(name: str, ledger: Ledger, folder: Path) -> dict:
    """Heading, caption, image, alternative text and data link of one figure."""
    caption, heading = figure_files.caption(name, ledger), figure_files.module(name).TITLE
    return {
        "name": name,
        "heading": heading,
        "caption": caption,
        "alt": f"Figure {name}: {heading}. {caption.split('. ')[0].rstrip('.')}. Its numbers are in the linked table.",
        "picture": picture(folder, name),
        "data": file_link(folder / f"{name}.csv"),
    }


def as_files(view: View, study: str) -> dict[str, bytes]:
    """{name: content} of a view as CSV (numbers) and LaTeX."""
    numbers = shown(view).to_csv(index=False, lineterminator="\n").encode()
    return {f"table_{view.name}.csv": numbers, f"table_{view.name}.tex": to_latex(view, study).encode()}


def table_view(view: View, study: str) -> dict:
    """A view ready for the template: headings with their kind, cells with their sort keys, and links to its files."""
    rows = view.frame.to_dict("records")
    return {
        "name": view.name,
        "heading": view.heading,
        "look": view.look,
        "columns": [{"heading": column.told, "number": column.form != "text"} for column in view.columns],
        "rows": [[cell(row, column) for column in view.columns] for row in rows],
        "kinds": view.frame["kind"].tolist() if "kind" in view.frame else [MEASURE] * len(rows),
        "files": [link(*file) for file in as_files(view, study).items()],
    }


def everything(study: str, statistics: Path, tables: Iterable[View]) -> dict[str, str]:
    """Link to an archive of all statistics, and of all views as CSV and LaTeX. Raises FileNotFoundError."""
    files = {}
    for name in HOLDS:
        path = statistics / f"{name}.{'json' if name == 'findings' else 'csv'}"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        files[f"statistics/{path.name}"] = path.read_bytes()
    for view in tables:
        files |= {f"tables/{name}": content for name, content in as_files(view, study).items()}
    return archive(f"{study}-tables.zip", files)


def blocks(ledger: Ledger, figures: Path, tables: dict[str, View]) -> list[dict]:
    """The sections with their figures and tables, numbered consecutively; figures not assigned to a section come
    last."""
    named = {name for section in SECTIONS for name in section.figures}
    rest = tuple(name for name in figure_files.names() if name not in named)
    more = (
        [Section("more", "Further figures", "Figures that belong to none of the questions above.", rest)]
        if rest
        else []
    )
    found, place = [], 0
    for section in (*SECTIONS, *more):
        pictures = [figure_view(name, ledger, figures) for name in section.figures]
        for one in pictures:
            place += 1
            one["number"] = place
        shown_tables = [table_view(tables[name], ledger.name) for name in section.views]
        found.append({**vars(section), "figures": pictures, "tables": shown_tables})
    return found


def merged(reasons: str) -> str:
    """'1 x lowest is 0.7; 2 x lowest is 0.9' -> '3 x lowest is 0.7 (or another number)'; other reasons are kept
    separate."""
    alike: dict[str, list[tuple[int, str]]] = {}
    for part in re.split(r"; (?=\d+ x )", reasons):
        count, _, reason = part.partition(" x ")
        alike.setdefault(re.sub(r"\d[\d.e+-]*", "#", reason), []).append((int(count), reason))
    told = []
    for found in alike.values():
        more = " (or another number)" if len(found) > 1 else ""
        told.append(f"{sum(count for count, _ in found)} x {found[0][1]}{more}")
    return "; ".join(told)


def missing(summary: pd.DataFrame, ledger: Ledger) -> list[tuple[str, str]]:
    """(measure, reasons for missing values), for measures with missing values."""
    rows = zip(summary["measure"], summary["reasons"], strict=True)
    return [(measure_label(name, ledger.columns), merged(why)) for name, why in rows if why]


def issue_groups(issues: pd.DataFrame) -> list[dict]:
    """Models that failed, collapsed or are flagged, by kind, most severe first as in the table."""
    groups = []
    for issue, part in issues.groupby("issue", sort=False):
        rows = part.to_dict("records")
        groups.append({"issue": issue, "rows": rows, "open": len(rows) <= OPEN_ROWS})
    return groups


def key_numbers(found: dict) -> list[tuple[str, str]]:
    """(number, what it counts) for the top of the page."""
    sample, gap = found["sample"], found["gap"]
    tiles = [(f"{sample['models']:,}", f"models analysed of {sample['planned']:,} planned")]
    if sample["configurations"]:
        tiles.append((f"{sample['configurations']:,}", f"configurations, {sample['trainings']:,} trainings"))
    if gap["n"]:
        spread = minus(f"{gap['min']:.1f} to {gap['max']:.1f}")
        tiles.append((minus(f"{gap['median']:.1f}"), f"median gap, percentage points ({spread})"))
    if gap.get("adversarially_trained"):
        share = f"{gap['above_2_se']:,} of {gap['adversarially_trained']:,}"
        tiles.append((share, "adversarially trained models with a gap above 2 of its standard errors"))
    tiles.append(
        (f"{len(found['strongest'])} of {found['measures']}", "measure columns whose single τ interval excludes 0")
    )
    tiles.append((f"{sample['failed'] + sample['collapsed']:,}", "models failed or collapsed"))
    return tiles


def build(ledger: Ledger, figures: str | Path, statistics: str | Path) -> str:
    """The report as HTML text.

    figures, statistics: folders written by `python -m robustgap.analysis figures` and `statistics` for this ledger.
    Raises FileNotFoundError or ValueError naming the file that is missing or malformed.
    """
    figures, statistics = Path(figures), Path(statistics)
    _numbers.take(ledger, statistics)
    with made_anew(findings := statistics / "findings.json", statistics / ASKED):
        found = read_json(findings, ["sample", "gap", "strongest", "measures", "sentences", "without_flagged"])
    summary = read_text(statistics / "summary.csv")
    tables = views(ledger, statistics)
    verdict, without = tables["verdicts"], found["without_flagged"]
    own = verdict.frame[verdict.frame["kind"] == MEASURE]
    models = explorer.content(ledger)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        css=(Path(__file__).parent / "report.css").read_text(encoding="utf-8"),
        script=(Path(__file__).parent / "report.js").read_text(encoding="utf-8"),
        library=explorer.library() if models else "",
        models=models,
        model_data=explorer.as_script(models) if models else "",
        study=ledger.name,
        interim=ledger.study.get("interim"),
        facts=_numbers.facts(ledger),
        level=f"{LEVEL:.0%}".replace("%", " %"),
        fewest=FEWEST_BLOCKS,
        tiles=key_numbers(found),
        sentences=found["sentences"],
        verdicts=table_view(verdict, ledger.name),
        reasons=verdict.frame[["label", "shown", "reason"]].to_numpy().tolist(),
        verdict_sentence=verdict_sentence(own, own["label"].tolist()),
        removals=removal_sentence(own),
        verdicts_without=without_sentence(own, own["label"].tolist(), without),
        without=without,
        why_unresolved=why_unresolved(own),
        checks=check_sentences(verdict.frame),
        missing=missing(summary, ledger),
        sections=blocks(ledger, figures, tables),
        everything=everything(ledger.name, statistics, tables.values()),
        holds=HOLDS,
        cards=cards(ledger, read_text(statistics / "reliability.csv")),
        grid=grid(ledger),
        issues=issue_groups(read_text(statistics / "issues.csv")),
        made=provenance(ledger),
        configuration=json.dumps(ledger.study, indent=1),
    )


def write(ledger: Ledger, *, figures: str | Path, statistics: str | Path, out: str | Path) -> None:
    """Write the report of `ledger` to the file `out` (see `build`)."""
    write_text(build(ledger, figures, statistics), out)
