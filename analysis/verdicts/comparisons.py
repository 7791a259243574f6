"""Paired comparisons: the difference between two measures' |tau| with the outcome.

    difference = |tau_a| - |tau_b|    over the models that have both measures

Signs are taken from the data: a measure that decreases with the outcome ranks as well as one that increases. Both taus
depend on the same configurations, so the influence of a configuration on the difference is

    sign(tau_a) influence_a - sign(tau_b) influence_b

(analysis.ranks.influence). The part explained by the settings is removed, and the spread of the rest gives the standard
error, as for tau itself.

low, high: 95 % interval of a single difference. family_low, family_high: simultaneous 95 % intervals for all pairs of
measures (max-T), so they hold for the best measure even though the data selected it. Pairs with a baseline form a
family per baseline. If the interval of a tau includes 0, its size is overestimated, and its difference from a larger
one underestimated.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.models.baselines import BASELINE, MEASURE
from robustgap.analysis.models.design import paired
from robustgap.analysis.models.study_table import Study
from robustgap.analysis.ranks.influence import standard_error, t_interval, tau_influence
from robustgap.analysis.verdicts.max_t import adjusted, critical, z_values
from robustgap.analysis.verdicts.statements import SINGLE_Z, Bases

KEY = ["measure", "other", "kind"]
ENDS = ["low", "high", "family_low", "family_high"]
RESULT = [*KEY, "tau", "tau_other", "difference", *ENDS, "family_p", "n", "configurations", "undefined"]


class Taus:
    """tau and influences by configuration of a column among some models, cached."""

    def __init__(self, study: Study):
        self.study, self.cache = study, dict[tuple[str, bytes], tuple[float, np.ndarray]]()

    def __call__(self, column: str, rows: np.ndarray) -> tuple[float, np.ndarray]:
        if (key := (column, rows.tobytes())) not in self.cache:
            x, y, _ = paired(self.study.table, self.study.outcome, column)
            block = np.unique(self.study.block[rows], return_inverse=True)[1]
            self.cache[key] = tau_influence(x[rows], y[rows], block)
        return self.cache[key]


def difference(
    study: Study, taus: Taus, bases: Bases, pair: tuple[str, str]
) -> tuple[dict[str, Any], float, int, np.ndarray]:
    """A row without intervals, its standard error, degrees of freedom, and error contributions by configuration."""
    rows = np.logical_and(*(paired(study.table, study.outcome, name)[2] for name in pair))
    chosen = np.unique(study.block[rows])
    (a, influence_a), (b, influence_b) = (taus(name, rows) for name in pair)
    parts = np.zeros(len(study.levels))
    row = {"measure": pair[0], "other": pair[1], "tau": a, "tau_other": b, "difference": abs(a) - abs(b)}
    row |= {"n": int(rows.sum()), "configurations": len(chosen), "undefined": int(np.isnan(a + b))}
    if row["undefined"]:
        return row, np.nan, 0, parts
    residual, se, free = standard_error(np.sign(a) * influence_a - np.sign(b) * influence_b, bases(chosen))
    if not np.isnan(se):
        parts[chosen] = residual
    return row, se, free, parts


def family(
    study: Study, taus: Taus, bases: Bases, pairs: Sequence[tuple[str, str]], kind: str, seed: int
) -> list[dict[str, Any]]:
    """Rows of pairs with simultaneous family-wise intervals; kind: that of the second member of each pair."""
    if not pairs:
        return []
    differences = [difference(study, taus, bases, pair) for pair in pairs]
    se, free = np.array([entry[1] for entry in differences]), np.array([entry[2] for entry in differences])
    parts = np.stack([entry[3] for entry in differences], axis=1)
    family_z = critical(parts, seed=seed)
    p = adjusted(z_values(np.array([entry[0]["difference"] for entry in differences]), se, free), parts, seed=seed)
    rows = []
    for (row, row_se, row_free, _), p_value in zip(differences, p, strict=True):
        ends = [end for z in (SINGLE_Z, family_z) for end in t_interval(row["difference"], row_se, max(row_free, 1), z)]
        rows.append({**row, "kind": kind, **dict(zip(ENDS, ends, strict=True)), "family_p": p_value})
    return rows


def comparisons(study: Study, baselines: Sequence[str] = (), *, seed: int = 0) -> pd.DataFrame:
    """Every pair of measures, the one with the larger |tau| first, then every measure with each baseline (columns:
    RESULT). study: `analysis.models.study_table.make_study`; baselines: further columns of its table."""
    taus, bases = Taus(study), Bases(study.levels)
    known = {name: paired(study.table, study.outcome, name)[2] for name in study.measures}
    strength = {name: np.nan_to_num(abs(taus(name, rows)[0])) for name, rows in known.items()}
    ordered = sorted(study.measures, key=lambda name: (-strength[name], name))
    rows = family(study, taus, bases, list(itertools.combinations(ordered, 2)), MEASURE, seed)
    for baseline in baselines:
        rows += family(study, taus, bases, [(name, baseline) for name in ordered], BASELINE, seed)
    return pd.DataFrame(rows, columns=RESULT)
