"""All tables shown to readers, and their files."""

from dataclasses import replace
from pathlib import Path

from robustgap.analysis.files import write_csv, write_text
from robustgap.analysis.statistics import Statistics, entry
from robustgap.analysis.tables.latex import to_latex
from robustgap.analysis.view import View, completed, shown


def views(statistics: Statistics) -> dict[str, View]:
    """All views of a ledger by name, in reading order. Raises FileNotFoundError for a missing table."""
    by_name = {}
    for name in statistics.names:
        for make in entry(name).views:
            view = completed(make(statistics))
            by_name[view.name] = replace(view, section=entry(name).section)
    return by_name


def write_views(statistics: Statistics, out: str | Path) -> list[Path]:
    """Write every view into folder `out` as NAME.csv (numbers) and NAME.tex; returns the files."""
    written = []
    for view in views(statistics).values():
        written += [Path(out) / f"{view.name}.csv", Path(out) / f"{view.name}.tex"]
        write_csv(shown(view), written[-2])
        write_text(to_latex(view, statistics.ledger.name), written[-1])
    return written
