"""Agreement of outcomes among themselves: tau-b between every two of them, over the models that have both.

Two gaps with tau near 1 order the models alike, so that what is said of one holds for the other; a low tau says that
the choice of attack, norm or eps, or of gap or accuracy, is part of the answer. low, high: single interval of the
configuration bootstrap. n: models that have both.
"""

import itertools

import numpy as np
import pandas as pd

from robustgap.analysis.models.design import configurations, paired
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.bootstrap import Bootstrap, interval, weighted_tau
from robustgap.analysis.rows import tidy_row
from robustgap.analysis.statistics import Statistic
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.statistics._outcomes import asked

KEY = ["outcome", "other"]
RESULT = [*KEY, "estimate", "low", "high", "n", "undefined"]


def compute(data: StudyData) -> pd.DataFrame:
    """Tau between every two outcomes, each pair once, with the same draws for all."""
    block, rows = configurations(data.models, data.axes), []
    weights = Bootstrap(data.slow_draws).weights(np.zeros(block.max(initial=-1) + 1), "tau")
    for one, other in bar(list(itertools.combinations(asked(data), 2)), "agreement of outcomes"):
        x, y, known = paired(data.models, other, one)
        draws = weighted_tau(x[known], y[known], block[known], weights)[0]
        numbers = interval(draws, len(np.unique(block[known])))
        rows.append(tidy_row(numbers, int(known.sum()), outcome=one, other=other))
    return pd.DataFrame(rows, columns=RESULT)


STATISTIC = Statistic(
    asks="how far outcomes order the models alike: τ between every two of them",
    place=152,
    compute=compute,
    text=KEY,
    columns=RESULT,
    needs=("ledger",),
)
