"""Partial Kendall correlation: does a measure rank the outcome beyond what a third column explains?

    tau_xy.z = (tau_xy - tau_xz tau_yz) / sqrt((1 - tau_xz^2) (1 - tau_yz^2))

of tau-b over the models that have the outcome y, the measure x and the given column z (training robust accuracy,
average_ce, or any other). Undefined if one of the three is, or if z orders the models exactly as x or y does (tau_xz or
tau_yz is 1 or -1, as for a column given itself). It is a linear adjustment of rank correlations for z, not a
conditional correlation: it need not be 0 when x and y are independent given z. M. G. Kendall, Partial rank correlation,
Biometrika 1942.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from robustgap.analysis.models.baselines import with_kinds
from robustgap.analysis.models.design import configurations, known_models
from robustgap.analysis.ranks.bootstrap import Bootstrap, interval, weighted_tau
from robustgap.analysis.rows import Row
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.statistics.correlations import RESULT, correlation_row
from robustgap.analysis.view import COUNT, LABEL, Column, View, pivoted


def partial(xy: np.ndarray, xz: np.ndarray, yz: np.ndarray) -> np.ndarray:
    """tau_xy.z per draw from the three coefficients; NaN where undefined."""
    product = (1 - xz**2) * (1 - yz**2)
    defined = product > 1e-12  # up to rounding, a tau of 1 is 1
    return np.where(defined, (xy - xz * yz) / np.sqrt(np.where(defined, product, 1)), np.nan)


def partial_tau(
    table: pd.DataFrame,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    given: str,
    bootstrap: Bootstrap,
) -> Iterator[Row]:
    """`partial_tau` of each measure given the column `given` (stored under given_axis), in the same draws as tau.

    n: models with all three values; undefined: 0 or 1.
    """
    block = configurations(table, axes)
    weights = bootstrap.weights(np.zeros(block.max(initial=-1) + 1), "tau")
    y, z = table[outcome].to_numpy(float), table[given].to_numpy(float)
    cached: dict[bytes, np.ndarray] = {}  # tau of outcome and column, by the set of models with the measure
    for measure in measures:
        x = table[measure].to_numpy(float)
        known = ~np.isnan(x + y + z)
        if known.tobytes() not in cached:
            cached = {known.tobytes(): weighted_tau(y[known], z[known], block[known], weights)[0]}
        xy, xz = (weighted_tau(x[known], other[known], block[known], weights)[0] for other in (y, z))
        numbers = interval(partial(xy, xz, cached[known.tobytes()]), len(np.unique(block[known])))
        yield correlation_row(measure, "partial_tau", numbers, int(known.sum()), given_axis=given)


def partial_correlations(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    given: Sequence[str],
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Partial tau of the outcome and each measure given each of the columns `given`, as tidy rows (RESULT).

    table: one row per model; models without an outcome are left out. A measure is not conditioned on itself.
    """
    bootstrap = Bootstrap(draws, seed)
    rows: list[Row] = []
    table = known_models(table, outcome, axes)
    for column in given:
        others = [measure for measure in measures if measure != column]
        rows += partial_tau(table, axes, outcome, others, column, bootstrap)
    return pd.DataFrame(rows, columns=RESULT)


def compute(data: StudyData) -> pd.DataFrame:
    """Partial tau given training accuracy under the outcome's attack and the training loss, if the study measured it;
    of a user's table, given the columns of its training state."""
    rows = partial_correlations(data.beside.table, **data.of_columns, given=data.given, draws=data.draws)
    return with_kinds(rows, data.beside.kinds)


def partial_view(statistics: Statistics) -> View:
    rows = statistics.table("partial")
    given = list(dict.fromkeys(rows["given_axis"]))
    frame = statistics.labelled(pivoted(rows, ["measure"], rows["given_axis"]))
    columns = (LABEL, *(Column(name, f"τ given {name}", "+.2f", True) for name in given), COUNT)
    look = (
        "Kendall's partial τ takes a column out of the correlation: what the measure still says about the gap among "
        "models alike in it. A value near 0 where τ is large means that the measure says what that column says."
    )
    return View("partial", "τ once another column is given", look, columns, frame)


STATISTIC = Statistic(
    asks="τ once a column is given, such as the training accuracy",
    place=70,
    compute=compute,
    text=("measure", "kind", "statistic", "axis", "value", "given_axis", "given_value"),
    needs=("given",),
    views=(partial_view,),
    section="settings",
)
