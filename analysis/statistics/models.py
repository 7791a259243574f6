"""Models: the wide table behind all statistics, one row per model."""

import pandas as pd

from robustgap.analysis.statistics import Statistic
from robustgap.analysis.statistics._data import StudyData


def compute(data: StudyData) -> pd.DataFrame:
    """The models of a ledger (analysis.models.flags.model_table)."""
    return data.models


STATISTIC = Statistic(
    asks="one row per model: settings, accuracies, gaps and all measures",
    place=160,
    compute=compute,
    text=(),
    columns=("model",),
    needs=("ledger",),
    in_folder=False,
)
