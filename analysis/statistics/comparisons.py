"""Comparisons: the difference between two measures' |tau|, for every pair."""

import pandas as pd

from robustgap.analysis.models.baselines import BASELINE
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.view import COUNT, LABEL, Column, View


def compute(data: StudyData) -> pd.DataFrame:
    """The differences, also from each baseline (analysis.verdicts.comparisons)."""
    return data.verdicts["comparisons"]


def comparisons_view(statistics: Statistics) -> View:
    rows = statistics.table("comparisons")
    best = rows["measure"].iloc[0] if len(rows) else ""
    rows = rows[(rows["measure"] == best) | (rows["kind"] == BASELINE)].rename(
        columns={end: f"difference_{end}" for end in ("low", "high", "family_low", "family_high")}
    )
    frame = rows.assign(label=[statistics.label(name) for name in rows["measure"]])
    frame = frame.assign(against=[statistics.label(name) for name in rows["other"]], kind=rows["kind"])
    columns = (
        LABEL,
        Column("against", "against"),
        Column("difference", "difference of |τ|", "+.2f", True, True),
        Column("tau", "τ", "+.2f"),
        Column("tau_other", "τ of the other", "+.2f"),
        COUNT,
    )
    look = (
        "The measure with the largest |τ| against every other one, then every measure against each baseline, over the "
        "models that have both. Where the interval is right of 0, the first ranks the models better; every pair of "
        "measures is in comparisons.csv. The intervals hold for all pairs of measures together, or for all measures "
        "against one baseline."
    )
    return View("comparisons", "Is one measure better than another?", look, columns, frame)


STATISTIC = Statistic(
    asks="is one measure better than another: the difference of their |τ|, for every pair",
    place=40,
    compute=compute,
    text=("measure", "other", "kind"),
    views=(comparisons_view,),
    section="strength",
)
