"""Final summary line about a table: what no statistic, or only some, could use."""

import pandas as pd

from robustgap.analysis.labels import count
from robustgap.analysis.model_table import ModelTable
from robustgap.analysis.models.design import in_grid


def undefined_cells(correlations: pd.DataFrame) -> str:
    """'undefined cells of psi: batch 2 of 24, lr 2 to 5 of 24 (by measure)' from the rows of `correlations`."""
    psi = correlations[(correlations["statistic"] == "psi") & (correlations["given_axis"] == "")]
    parts = []
    for axis, rows in psi.groupby("axis", sort=False):
        least, most = int(rows["undefined"].min()), int(rows["undefined"].max())
        if most:
            number = f"{least} to {most}" if least < most else f"{most}"
            by_measure = " by measure" if least < most else ""
            parts.append(f"{axis} {number} of {int((rows['n'] + rows['undefined']).iloc[0])}{by_measure}")
    return f"undefined cells of psi: {', '.join(parts) or 'none'}"


def closing_line(table: ModelTable, correlations: pd.DataFrame | None = None) -> str:
    """One sentence: number of models, those outside the grid, undefined cells if `correlations` were computed, and how
    many models lack each measure."""
    outside = int((~in_grid(table.rows, table.axes)).sum()) if table.axes else 0
    note = f" (NA in all of {', '.join(table.axes)}; left out of cells, pairs and verdicts)" if outside else ""
    counts = {name: int(table.rows[name].isna().sum()) for name in table.measures}
    missing = ", ".join(f"{name} {number}" for name, number in counts.items() if number)
    parts = [
        f"{count(len(table.rows), 'model')}, {outside or 'none'} outside the grid{note}",
        *([undefined_cells(correlations)] if correlations is not None else []),
        f"values missing: {missing or 'none'}",
    ]
    return "; ".join(parts)
