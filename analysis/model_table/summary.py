"""Final summary line about a table: what no statistic, or only some, could use."""

import pandas as pd

from robustgap.analysis.model_table import ModelTable
from robustgap.analysis.models.design import in_grid


def undefined_cells(found: pd.DataFrame) -> str:
    """'undefined cells of psi: batch 2 of 24, lr 2 to 5 of 24 (by measure)' from the rows of `correlations`."""
    psi = found[(found["statistic"] == "psi") & (found["given_axis"] == "")]
    parts = []
    for axis, rows in psi.groupby("axis", sort=False):
        least, most = int(rows["undefined"].min()), int(rows["undefined"].max())
        if most:
            many = f"{least} to {most}" if least < most else f"{most}"
            by = " by measure" if least < most else ""
            parts.append(f"{axis} {many} of {int((rows['n'] + rows['undefined']).iloc[0])}{by}")
    return f"undefined cells of psi: {', '.join(parts) or 'none'}"


def closing_line(table: ModelTable, found: pd.DataFrame | None = None) -> str:
    """One sentence: number of models, those outside the grid, undefined cells if `correlations` were computed, and how
    many models lack each measure."""
    outside = int((~in_grid(table.rows, table.axes)).sum()) if table.axes else 0
    away = f" (NA in all of {', '.join(table.axes)}; cells, pairs and verdicts go without them)" if outside else ""
    blank = {name: int(table.rows[name].isna().sum()) for name in table.measures}
    missing = ", ".join(f"{name} {many}" for name, many in blank.items() if many)
    parts = [
        f"{len(table.rows)} models, {outside or 'none'} outside the grid{away}",
        *([undefined_cells(found)] if found is not None else []),
        f"values missing: {missing or 'none'}",
    ]
    return "; ".join(parts)
