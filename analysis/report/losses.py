"""What is missing from a study: values of measures, and models that failed, collapsed or are flagged."""

import re
from typing import Any

import pandas as pd

from robustgap.analysis.labels import measure_label
from robustgap.analysis.statistics import Statistics

OPEN_ROWS = 12  # longer lists of flagged models are collapsed


def merged_reasons(reasons: str) -> str:
    """'1 x lowest is 0.7; 2 x lowest is 0.9' -> '3 x lowest is 0.7 (or another number)'; other reasons are kept
    separate."""
    alike: dict[str, list[tuple[int, str]]] = {}
    for counted in re.split(r"; (?=\d+ x )", reasons):
        count, _, reason = counted.partition(" x ")
        alike.setdefault(re.sub(r"\d[\d.e+-]*", "#", reason), []).append((int(count), reason))
    merged = []
    for same in alike.values():
        more = " (or another number)" if len(same) > 1 else ""
        merged.append(f"{sum(count for count, _ in same)} x {same[0][1]}{more}")
    return "; ".join(merged)


def missing_values(summary: pd.DataFrame, columns: list[str]) -> list[tuple[str, str]]:
    """(measure, reasons for missing values), for measures with missing values."""
    rows = zip(summary["measure"], summary["reasons"], strict=True)
    return [(measure_label(name, columns), merged_reasons(why)) for name, why in rows if why]


def issue_groups(issues: pd.DataFrame) -> list[dict[str, Any]]:
    """Models that failed, collapsed or are flagged, by kind, most severe first as in the table."""
    groups = []
    for issue, part in issues.groupby("issue", sort=False):
        rows = part.to_dict("records")
        groups.append({"issue": issue, "rows": rows, "open": len(rows) <= OPEN_ROWS})
    return groups


def context(statistics: Statistics) -> dict[str, Any]:
    """Missing values by measure, and issues by kind."""
    return {
        "missing": missing_values(statistics.table("summary"), statistics.ledger.columns),
        "issues": issue_groups(statistics.table("issues")),
    }
