"""Groups measures that order the models alike, so that one finding under several names counts once."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from robustgap.analysis.models.design import known_models
from robustgap.analysis.ranks.bootstrap import weighted_tau

ALIKE = 0.9  # minimum |tau| between two measures of a group: they order 95 % of the pairs of models alike
# |Spearman's rho| below this rules out such a tau: without ties, rho is at least (3 tau - 1) / 2 = 0.85.
APART = 0.7
SHARED = 0.5  # minimum share of the models that must have both measures


def absolute_taus(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """|tau-b| of every two columns over the models that have both: (k, k), ones on the diagonal; 0 if undefined, if
    fewer than SHARED of the models have both, and if it is certainly below ALIKE (J. Durbin, A. Stuart, Inversions and
    rank correlation coefficients, JRSS B 1951)."""
    values = table[list(columns)].to_numpy(float)
    apart = (table[list(columns)].corr("spearman").abs() < APART).to_numpy()
    taus = np.eye(len(columns))
    for first in range(len(columns)):
        for second in range(first):
            x, y = values[:, first], values[:, second]
            known = ~np.isnan(x + y)
            if not apart[first, second] and known.sum() >= max(2, SHARED * len(values)):
                x, y = x[known], y[known]
                tau = weighted_tau(x, y, np.zeros(len(x), dtype=int), np.ones((1, 1)))[0, 0]
                taus[first, second] = taus[second, first] = 0 if np.isnan(tau) else abs(tau)
    return taus


def groups_by_order(table: pd.DataFrame, *, outcome: str, measures: Sequence[str]) -> dict[str, str]:
    """{measure: its group, '' if it has none}; a group is named after its member with the largest |tau| with the
    outcome.

    Complete linkage on 1 - |tau| between measures: *any* two in a group have |tau| >= ALIKE. Groups do not depend on
    the order of columns and rows, and are invariant under strictly monotone (also decreasing) changes of a measure.
    table: one row per model; those without an outcome are left out.
    """
    table = known_models(table, outcome, [])
    y = table[outcome].to_numpy(float)
    strength = {}
    for name in measures:
        x = table[name].to_numpy(float)
        known = ~np.isnan(x)
        tau = weighted_tau(x[known], y[known], np.zeros(known.sum(), dtype=int), np.ones((1, 1)))[0, 0]
        strength[name] = 0.0 if np.isnan(tau) else abs(tau)
    ordered = sorted(measures, key=lambda name: (-strength[name], name))
    if len(ordered) < 2:
        return dict.fromkeys(measures, "")
    distance = 1 - absolute_taus(table, ordered)
    cluster = fcluster(linkage(squareform(distance, checks=False), "complete"), 1 - ALIKE + 1e-12, "distance")
    members = pd.Series(ordered).groupby(cluster).agg(list)
    return {name: group[0] if len(group) > 1 else "" for group in members for name in group}
