"""Where the answer changes: the difference between a measure's tau with the study's outcome and with another one.

    estimate = tau - tau_other        over the models that have the measure and both outcomes

Both taus rest on the same models and configurations, so their errors are correlated, and the difference is known better
than either. low, high: single interval of the configuration bootstrap, with the same draws for both taus. family_low,
family_high: simultaneous 95 % intervals over all measures and outcomes (max-T): the influence of a configuration on the
difference is that on tau less that on tau_other, and the part that the settings explain is removed (as in
analysis.verdicts.comparisons). verdict:

    does not change   the simultaneous interval lies within -MARGIN and MARGIN: at most one pair of models in twenty is
                      ordered otherwise by one of the two outcomes more than by the other
    changes           it excludes 0
    undecided         these data cannot tell

Models of the grid only, as in verdicts. A loss rises where an accuracy falls, and a gap is no accuracy: between
outcomes of different kinds a change is to be expected; between attacks, norms and eps it is news.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.models.design import paired
from robustgap.analysis.models.study_table import Study, make_study
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.bootstrap import Bootstrap, interval, weighted_tau
from robustgap.analysis.ranks.influence import standard_error, t_interval, tau_influence
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.statistics._outcomes import alike, asked
from robustgap.analysis.verdicts.max_t import adjusted, critical, z_values
from robustgap.analysis.verdicts.statements import Bases
from robustgap.analysis.view import COUNT, LABEL, Column, View
from robustgap.analysis.words import explained_words

KEY = ["measure", "outcome", "verdict"]
FAMILY = ["family_low", "family_high"]
RESULT = [*KEY, "tau", "tau_other", "estimate", "low", "high", *FAMILY, "family_p", "n", "configurations", "undefined"]
MARGIN = 0.1  # of tau
CHANGES, SAME, UNDECIDED = "changes", "does not change", "undecided"


@dataclass(frozen=True)
class Difference:
    """A row without simultaneous interval, its standard error, degrees of freedom, and contributions by
    configuration."""

    row: dict[str, Any]
    se: float
    free: int
    parts: np.ndarray


class Taus:
    """Draws of tau, tau and its influences, of a measure with an outcome among some models, cached."""

    def __init__(self, study: Study, draws: int):
        self.study, self.cache = study, dict[tuple[str, str, bytes], tuple[np.ndarray, np.ndarray]]()
        self.weights = Bootstrap(draws).weights(np.zeros(len(study.levels)), "tau")

    def __call__(self, measure: str, outcome: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if (key := (measure, outcome, rows.tobytes())) not in self.cache:
            x, y = (self.study.table[name].to_numpy(float)[rows] for name in (measure, outcome))
            block = self.study.block[rows]
            _, influence = tau_influence(x, y, np.unique(block, return_inverse=True)[1])
            self.cache[key] = weighted_tau(x, y, block, self.weights)[0], influence
        return self.cache[key]


def difference(study: Study, taus: Taus, bases: Bases, measure: str, other: str) -> Difference:
    """The difference for one measure and one other outcome."""
    table = study.table
    rows = paired(table, study.outcome, measure)[2] & table[other].notna().to_numpy()
    chosen, parts = np.unique(study.block[rows]), np.zeros(len(study.levels))
    (draws, influence), (draws_other, influence_other) = (taus(measure, name, rows) for name in (study.outcome, other))
    estimate, low, high = interval(draws - draws_other, len(chosen))
    row = {"measure": measure, "outcome": other, "tau": draws[0], "tau_other": draws_other[0]}
    row |= {"estimate": estimate, "low": low, "high": high, "n": int(rows.sum()), "configurations": len(chosen)}
    row["undefined"] = int(np.isnan(estimate))
    if row["undefined"]:
        return Difference(row, np.nan, 0, parts)
    residual, se, free = standard_error(influence - influence_other, bases(chosen))
    if not np.isnan(se):
        parts[chosen] = residual
    return Difference(row, se, free, parts)


def verdict(low: float, high: float) -> str:
    """What a simultaneous interval of the difference says."""
    if low >= -MARGIN and high <= MARGIN:
        return SAME
    return CHANGES if low > 0 or high < 0 else UNDECIDED


def changes(study: Study, others: list[str], *, draws: int = 200, seed: int = 0) -> pd.DataFrame:
    """The differences for all measures and other outcomes (columns: RESULT). study: with the study's own outcome;
    others: further columns of its table; a measure is not compared with itself."""
    taus, bases = Taus(study, draws), Bases(study.levels)
    pairs = [(measure, other) for measure in study.measures for other in others if measure != other]
    found = [difference(study, taus, bases, *pair) for pair in bar(pairs, "changes between outcomes")]
    if not found:
        return pd.DataFrame(columns=RESULT)
    parts, se = np.stack([one.parts for one in found], axis=1), np.array([one.se for one in found])
    estimate, free = np.array([one.row["estimate"] for one in found]), np.array([one.free for one in found])
    p, family_z = adjusted(z_values(estimate, se, free), parts, seed=seed), critical(parts, seed=seed)
    rows = []
    for one, p_value in zip(found, p, strict=True):
        low, high = t_interval(one.row["estimate"], one.se, max(one.free, 1), family_z)
        rows.append({**one.row, "family_low": low, "family_high": high, "family_p": p_value})
        rows[-1]["verdict"] = verdict(low, high)
    return pd.DataFrame(rows, columns=RESULT)


def compute(data: StudyData) -> pd.DataFrame:
    """Every measure's change from the study's outcome to each other one."""
    if not data.decidable:
        return pd.DataFrame(columns=RESULT)
    others = [name for name in asked(data) if name != data.outcome]
    return changes(make_study(data.models, **data.of_measures), others, draws=data.slow_draws)


def change_view(statistics: Statistics) -> View:
    rows, ledger = statistics.table("outcomes_change"), statistics.ledger
    shown = rows["outcome"].isin(alike(ledger.explained, asked(statistics.data)))
    rows = rows[shown & (rows["verdict"] != SAME)]
    rows = rows.loc[rows["estimate"].abs().sort_values(ascending=False, kind="stable").index]
    first = np.argsort((rows["verdict"] != CHANGES).to_numpy(), kind="stable")
    rows = rows.iloc[first].rename(columns={end: f"estimate_{end}" for end in ("low", "high", *FAMILY)})
    frame = rows.assign(label=[statistics.label(name) for name in rows["measure"]])
    frame = frame.assign(against=[explained_words(ledger.explain(name)) for name in rows["outcome"]])
    columns = (
        LABEL,
        Column("against", "other outcome"),
        Column("verdict", "the answer"),
        Column("estimate", "difference of τ", "+.2f", True, True),
        Column("tau", "τ with the study's outcome", "+.2f"),
        Column("tau_other", "τ with the other", "+.2f"),
        COUNT,
    )
    look = (
        f"τ with the {explained_words(ledger.explained)} less τ with the same under another attack, norm or ε, on the "
        f"same models. Measures whose answer does not change (the interval lies within ±{MARGIN}) are left out here; "
        "these and the differences from accuracies and losses are in outcomes_change.csv. The intervals hold for all "
        "measures and outcomes together."
    )
    return View("outcomes_change", "Where the answer changes", look, columns, frame)


STATISTIC = Statistic(
    asks="where the answer changes: the difference of τ between the study's outcome and each other one",
    place=153,
    compute=compute,
    text=KEY,
    columns=RESULT,
    needs=("ledger",),
    views=(change_view,),
    section="outcomes",
)
