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

RESULT = ["measure", "statistic", "axis", "value", "estimate", "low", "high", "n", "undefined"]
RESULT += ["pooled", "pooled_low", "pooled_high", "pooled_n", "reversed", "resolved", "values"]


def simpson(found: pd.DataFrame) -> pd.DataFrame:
    """One row for pi of each measure and axis (value '') and of each value, with tau beside it (columns: RESULT).

    found: rows of `analysis.statistics.correlations.correlations`. estimate, low, high, n, undefined: those of pi. A
    coefficient that is undefined or 0 is not reversed.
    """
    pooled = found.loc[found["statistic"] == "tau"].set_index("measure")[["estimate", "low", "high", "n"]]
    within = found.loc[found["statistic"] == "pi"].reset_index(drop=True)
    beside = pooled.set_axis(["pooled", "pooled_low", "pooled_high", "pooled_n"], axis=1).reindex(within["measure"])
    table = pd.concat([within, beside.reset_index(drop=True)], axis=1)
    table["reversed"] = table["estimate"] * table["pooled"] < 0
    apart = (table["low"] > 0) & (table["pooled_high"] < 0) | (table["high"] < 0) & (table["pooled_low"] > 0)
    table["resolved"] = table["reversed"] & apart
    each = table["value"] != ""
    count = table["reversed"].where(each, False).groupby([table["measure"], table["axis"]], sort=False).transform("sum")
    table["values"] = np.where(each, table["reversed"], count).astype(int)
    return table[RESULT]
