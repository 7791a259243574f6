"""Issues: models that failed, collapsed, have no outcome, or are flagged, each with the reason."""

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import split_flags
from robustgap.analysis.models.flags import reason
from robustgap.analysis.statistics import Statistic
from robustgap.analysis.statistics._data import StudyData

GRAVEST = ("failed", "collapsed", "no outcome")  # listed first
RESULT = ["model", "run", "checkpoint", "seed", "issue", "reason", "settings"]


def compute(data: StudyData) -> pd.DataFrame:
    """One row for every model that failed, collapsed, lacks the outcome, or is flagged, with the reason."""
    ledger, table = data.ledger, data.models
    assert ledger is not None, "needs the ledger"
    all_rows = pd.concat([ledger.runs, ledger.distinct]).to_dict("records")  # the latter tells of models that are both
    settings = {row["model"]: ", ".join(f"{axis}={row[axis]}" for axis in ledger.axes) for row in all_rows}
    reasons = {row["model"]: row["reason"] for row in all_rows}
    rows = ledger.runs.loc[ledger.runs["status"] != "finished"].to_dict("records")
    issues = [{**row, "issue": row["status"]} for row in rows]
    for row in table.to_dict("records"):
        if np.isnan(row[ledger.outcome]):
            issues.append({**row, "issue": "no outcome", "reason": f"{ledger.outcome} is not known"})
        row["reason"] = reasons[row["model"]]
        flags = split_flags(row["flags"])
        issues += [{**row, "issue": flag, "reason": reason(row, flag, ledger.outcome)} for flag in flags]
    frame = pd.DataFrame(issues, columns=RESULT)
    frame["settings"] = frame["model"].map(settings)
    grave = frame["issue"].map({issue: place for place, issue in enumerate(GRAVEST)}).fillna(len(GRAVEST))
    return frame.assign(grave=grave).sort_values(["grave", "issue", "model"], ignore_index=True).drop(columns="grave")


STATISTIC = Statistic(
    asks="models that failed, collapsed or are flagged, with the reason",
    place=170,
    compute=compute,
    text=RESULT,
    columns=("model", "issue"),
    needs=("ledger",),
)
