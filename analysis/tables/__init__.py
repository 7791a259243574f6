"""All tables shown to readers, and their files."""

from collections.abc import Callable
from pathlib import Path

from robustgap.analysis.files import write_csv, write_text
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.tables import association as one
from robustgap.analysis.tables import prediction as two
from robustgap.analysis.tables.latex import to_latex
from robustgap.analysis.view import Source, View, complete, shown


def views(ledger: Ledger, folder: str | Path) -> dict[str, View]:
    """All views of a ledger by name, from its statistics folder. Raises FileNotFoundError for a missing table."""
    makers: list[Callable[[Source], View]] = [one.verdicts, one.tau, two.ceilings, two.noise, one.simpson, one.partial]
    makers += [
        one.comparisons,
        one.information,
        one.thresholds,
        one.sign_errors,
        two.ladder,
        two.increments,
        two.left_out,
    ]
    makers += [two.selection, two.reliability]
    source = Source(ledger, Path(folder))
    return {view.name: complete(view) for view in (make(source) for make in makers)}


def write_views(ledger: Ledger, folder: str | Path, out: str | Path) -> list[Path]:
    """Write every view into folder `out` as NAME.csv (numbers) and NAME.tex; returns the files."""
    written = []
    for view in views(ledger, folder).values():
        written += [Path(out) / f"{view.name}.csv", Path(out) / f"{view.name}.tex"]
        write_csv(shown(view), written[-2])
        write_text(to_latex(view, ledger.name), written[-1])
    return written
