"""Groups measures that order the models alike, so that a finding with several names counts once."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from robustgap.analysis.models.design import known_models
from robustgap.analysis.ranks.bootstrap import weighted_tau

ALIKE = 0.9  # minimum |tau| between two measures of a group: they order 95 % of the pairs of models alike
APART = (
    0.7  # |Spearman's rho| below this cannot go with such a tau: rho is at least (3 tau - 1) / 2 = 0.85 without ties
)
SHARED = 0.5  # minimum share of the models that must have both measures


def between(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """|tau-b| of every two columns over the models that have both: (k, k), ones on the diagonal; 0 if undefined, if
    fewer than SHARED of the models have both, and if it is certainly below ALIKE (J. Durbin, A. Stuart, Inversions and
    rank correlation coefficients, JRSS B 1951)."""
    values = table[list(columns)].to_numpy(float)
    apart = (table[list(columns)].corr("spearman").abs() < APART).to_numpy()
    found = np.eye(len(columns))
    for a in range(len(columns)):
        for b in range(a):
            x, y = values[:, a], values[:, b]
            both = ~np.isnan(x + y)
            if not apart[a, b] and both.sum() >= max(2, SHARED * len(values)):
                x, y = x[both], y[both]
                tau = weighted_tau(x, y, np.zeros(len(x), dtype=int), np.ones((1, 1)))[0, 0]
                found[a, b] = found[b, a] = 0 if np.isnan(tau) else abs(tau)
    return found


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
    apart = 1 - between(table, ordered)
    number = fcluster(linkage(squareform(apart, checks=False), "complete"), 1 - ALIKE + 1e-12, "distance")
    members = pd.Series(ordered).groupby(number).agg(list)
    return {name: own[0] if len(own) > 1 else "" for own in members for name in own}
