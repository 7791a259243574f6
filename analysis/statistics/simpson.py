"""Simpson check: does a measure rank the outcome within the values of a setting as it does over all models?

The pooled tau mixes differences between the values of an axis with those within them. A measure that differs between
defenses as the gap does has a pooled tau of that sign, whatever its relation within a defense. Here tau is listed
beside pi of each axis and of each of its values (analysis.statistics.correlations), and reversals are flagged:

    reversed   the two estimates have opposite signs
    resolved   and both intervals exclude 0, on opposite sides: not explained by sampling
    values     for an axis, how many of its values are reversed; all of them is Simpson's paradox in the strict sense

E. H. Simpson, The interpretation of interaction in contingency tables, JRSS B 1951.
"""

import numpy as np
import pandas as pd

from robustgap.analysis.models.baselines import with_kinds
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.view import COUNT, LABEL, Column, View

RESULT = ["measure", "statistic", "axis", "value", "estimate", "low", "high", "n", "undefined"]
RESULT += ["pooled", "pooled_low", "pooled_high", "pooled_n", "reversed", "resolved", "values"]


def simpson(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for pi of each measure and axis (value '') and of each value, with tau beside it (columns: RESULT).

    rows: those of `analysis.statistics.correlations.correlations`. estimate, low, high, n, undefined: those of pi. A
    coefficient that is undefined or 0 is not reversed.
    """
    pooled = rows.loc[rows["statistic"] == "tau"].set_index("measure")[["estimate", "low", "high", "n"]]
    within = rows.loc[rows["statistic"] == "pi"].reset_index(drop=True)
    names = ["pooled", "pooled_low", "pooled_high", "pooled_n"]
    beside = pooled.set_axis(names, axis=1).reindex(within["measure"])
    table = pd.concat([within, beside.reset_index(drop=True)], axis=1)
    table["reversed"] = table["estimate"] * table["pooled"] < 0
    opposite = (table["low"] > 0) & (table["pooled_high"] < 0) | (table["high"] < 0) & (table["pooled_low"] > 0)
    table["resolved"] = table["reversed"] & opposite
    single = table["value"] != ""
    by_axis = table["reversed"].where(single, False).groupby([table["measure"], table["axis"]], sort=False)
    table["values"] = np.where(single, table["reversed"], by_axis.transform("sum")).astype(int)
    return table[RESULT]


def compute(data: StudyData, correlations: pd.DataFrame) -> pd.DataFrame:
    """The check for every measure, baseline and control."""
    return with_kinds(simpson(correlations), data.beside.kinds)


def simpson_view(statistics: Statistics) -> View:
    rows = statistics.table("simpson")
    rows = statistics.labelled(rows[rows["reversed"]].rename(columns={"estimate": "within"}))
    rows = rows.rename(columns={"low": "within_low", "high": "within_high"})
    where = rows["axis"] + np.where(rows["value"] == "", " (mean)", " = " + rows["value"]) if len(rows) else []
    columns = (
        LABEL,
        Column("where", "within"),
        Column("pooled", "τ, all models", "+.2f", True),
        Column("within", "τ within", "+.2f", True),
        Column("told", "both single intervals exclude 0"),
        COUNT,
    )
    look = (
        "Every place where τ within a value of a setting has the other sign than τ over all models. Only where both "
        "single intervals exclude 0 is the reversal more than noise."
    )
    frame = rows.assign(where=where, told=np.where(rows["resolved"], "yes", "no"))
    return View("simpson", "Reversals inside the values of a setting", look, columns, frame)


STATISTIC = Statistic(
    asks="τ over all models beside τ within each value of a setting",
    place=60,
    compute=compute,
    text=("measure", "kind", "statistic", "axis", "value"),
    yes_no=("reversed", "resolved"),
    after=("correlations",),
    views=(simpson_view,),
    section="settings",
)
