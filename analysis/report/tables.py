"""Tables of the report, sortable and as files, and the archive of all statistics and tables."""

from typing import Any

from robustgap.analysis.models.baselines import MEASURE
from robustgap.analysis.report.embedding import archive, link
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics_folder import contents, file_name
from robustgap.analysis.tables.latex import to_latex
from robustgap.analysis.view import View, cell, shown


def as_files(view: View, study: str) -> dict[str, bytes]:
    """{name: content} of a view as CSV (numbers) and LaTeX."""
    numbers = shown(view).to_csv(index=False, lineterminator="\n").encode()
    return {f"table_{view.name}.csv": numbers, f"table_{view.name}.tex": to_latex(view, study).encode()}


def table_view(view: View, study: str) -> dict[str, Any]:
    """A view ready for the template: headings with their kind, cells with their sort keys, and links to its files."""
    rows = view.frame.to_dict("records")
    return {
        "name": view.name,
        "heading": view.heading,
        "look": view.look,
        "columns": [{"heading": column.title, "number": column.form != "text"} for column in view.columns],
        "rows": [[cell(row, column) for column in view.columns] for row in rows],
        "kinds": view.frame["kind"].tolist() if "kind" in view.frame else [MEASURE] * len(rows),
        "files": [link(*file) for file in as_files(view, study).items()],
    }


def context(statistics: Statistics, tables: dict[str, View]) -> dict[str, Any]:
    """What the archive of all statistics (and of all views as CSV and LaTeX) holds, and the link to it. Raises
    FileNotFoundError."""
    assert statistics.folder is not None, "reports are made from a folder of statistics"
    files, contained, study = {}, contents(statistics), statistics.ledger.name
    for name in contained:
        path = statistics.folder / file_name(name)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        files[f"statistics/{path.name}"] = path.read_bytes()
    for view in tables.values():
        files |= {f"tables/{name}": content for name, content in as_files(view, study).items()}
    return {"everything": archive(f"{study}-tables.zip", files), "holds": contained}
