"""Statements: the estimates that verdicts rest on, with single and family-wise intervals."""

import pandas as pd

from robustgap.analysis.statistics import Statistic
from robustgap.analysis.statistics._data import StudyData


def compute(data: StudyData) -> pd.DataFrame:
    """The statements about every measure, baseline and control (analysis.verdicts.statements)."""
    return data.verdicts["statements"]


STATISTIC = Statistic(
    asks="what verdicts rest on: τ, π and increments, with single and with family-wise intervals",
    place=20,
    compute=compute,
    text=("measure", "kind", "statistic", "axis", "value", "learner"),
)
