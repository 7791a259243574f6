"""Environments: the sign error of each measure in every single pair of configurations that differ in one axis."""

import pandas as pd

from robustgap.analysis.statistics import Statistic
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.statistics.sign_errors import environment_errors


def compute(data: StudyData) -> pd.DataFrame:
    """Sign errors of the measures in every surviving environment."""
    table, images = data.weighted
    return environment_errors(table, **data.of_measures, images=images, min_ess=data.min_ess)


STATISTIC = Statistic(
    asks="the same for every single pair of configurations",
    place=110,
    compute=compute,
    text=("measure", "axis", "value"),
)
