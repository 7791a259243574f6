"""The statements behind verdicts, with single and simultaneous (family-wise) intervals.

    tau         tau-b of the measure with the outcome, over configurations with this design's margins
    tau_expected  the same with *expected* outcomes (analysis.ranks.influence.tau_of_expected); only where the standard
                error of the outcome is known. It has the sign of tau, so verdicts do not depend on the choice
    pi          tau among the models with one value of an axis
    increment   in R2 over the settings, out of fold, by ridge regression and by boosted trees
                (analysis.prediction.gain)
    increment_state  the same over the settings and the training state; only if such columns are named

low, high: 95 % interval of the single statement. family_low, family_high: simultaneous 95 % intervals for the
statements of one kind about all measures (max-T, analysis.verdicts.max_t); for pi and increments the 95 % hold on each
side, since only one side can be wrong (docs/claims.md), so at least 90 % on both sides. family_p: adjusted for that
family (the probability of *any* wrong statement); fdr_q: adjusted for the false discovery rate (the share of wrong ones
among those made, Benjamini-Hochberg), which is less strict and therefore usually smaller.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from robustgap.analysis.models.checkpoints import rows_by_value
from robustgap.analysis.models.design import paired
from robustgap.analysis.models.study_table import Statement, Study
from robustgap.analysis.prediction.increment_statements import INCREMENTS, increments
from robustgap.analysis.prediction.settings_regression import LEARNERS
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.bootstrap import LEVEL
from robustgap.analysis.ranks.influence import (
    outcome_reliability,
    settings_basis,
    standard_error,
    t_interval,
    tau_influence,
    tau_of_expected,
)
from robustgap.analysis.verdicts.max_t import adjusted, benjamini_hochberg, critical, z_values

KEY = ["measure", "statistic", "axis", "value", "learner"]
NUMBERS = ["estimate", "low", "high", "family_low", "family_high", "family_p", "fdr_q", "slope", "n", "configurations"]
RESULT = [*KEY, *NUMBERS, "undefined"]
SINGLE_Z = float(stats.norm.isf((1 - LEVEL) / 2))


class Bases:
    """Cache of settings bases (analysis.ranks.influence) by the set of configurations, which many statements share."""

    def __init__(self, levels: np.ndarray):
        self.levels, self.cache = levels, dict[bytes, np.ndarray]()

    def __call__(self, chosen: np.ndarray) -> np.ndarray:
        if (key := chosen.tobytes()) not in self.cache:
            self.cache[key] = settings_basis(self.levels[chosen])
        return self.cache[key]


def tau_statement(study: Study, bases: Bases, rows: np.ndarray, key: dict[str, Any]) -> Statement:
    """Tau of a measure with the outcome among the models `rows` (n,) bool."""
    x, y, known = paired(study.table, study.outcome, key["measure"])
    rows = rows & known
    chosen, block = np.unique(study.block[rows], return_inverse=True)
    tau, influence = tau_influence(x[rows], y[rows], block)
    parts = np.zeros(len(study.levels))
    numbers = {"n": int(rows.sum()), "configurations": len(chosen)}
    if np.isnan(tau):
        return Statement(key, np.nan, np.nan, 0, parts, **numbers)
    residual, se, free = standard_error(influence, bases(chosen))
    reliable = outcome_reliability(y[rows], None if study.se is None else study.se[rows])
    if not np.isnan(se):
        parts[chosen] = residual
    return Statement(key, tau, se, free, parts, **numbers, reliable=reliable)


def taus(study: Study, bases: Bases) -> list[Statement]:
    """tau over all models, one statement per measure."""
    all_models = np.full(len(study.table), True)
    return [
        tau_statement(study, bases, all_models, {"measure": measure, "statistic": "tau"})
        for measure in bar(study.measures, "tau")
    ]


def pis(study: Study, bases: Bases) -> list[Statement]:
    """pi of each measure among the models with each value of each axis."""
    statements = []
    for axis in bar(study.axes, "pi"):
        for value, rows in rows_by_value(study.table, axis).items():
            key = {"statistic": "pi", "axis": axis, "value": value}
            statements += [tau_statement(study, bases, rows, {"measure": measure, **key}) for measure in study.measures]
    return statements


def family_rows(statements: list[Statement], *, two_sided: bool = True, seed: int = 0) -> list[dict[str, Any]]:
    """Tidy rows of the statements of one family, with both kinds of intervals (module docstring).

    two_sided: whether wrong statements on both sides of 0 count, or only on one side (at 5 %; see
    analysis.verdicts.claims).
    """
    parts = np.stack([statement.parts for statement in statements], axis=1)
    estimate, se, free = (np.array([getattr(s, name) for s in statements]) for name in ("estimate", "se", "free"))
    z = z_values(estimate, se, free)
    family_z = critical(parts, two_sided=two_sided, seed=seed)
    p, q = adjusted(z, parts, seed=seed), benjamini_hochberg(2 * stats.norm.sf(np.abs(z)))
    rows = []
    for index, statement in enumerate(statements):
        numbers = statement.estimate, statement.se, max(statement.free, 1)
        ends = [*t_interval(*numbers, SINGLE_Z), *t_interval(*numbers, family_z)]
        if statement.key["statistic"] not in INCREMENTS:
            ends = list(np.clip(ends, -1, 1))
        row = {**dict.fromkeys(KEY, ""), **statement.key}
        row |= dict(zip(NUMBERS[:5], [statement.estimate, *ends], strict=True))
        row |= {"family_p": p[index], "fdr_q": q[index], "slope": statement.slope, "n": statement.n}
        row |= {"configurations": statement.configurations, "undefined": int(np.isnan(statement.estimate))}
        rows.append(row)
    return rows


def expected_rows(rows: list[dict[str, Any]], statements: list[Statement]) -> list[dict[str, Any]]:
    """Rows of tau_expected from those of tau."""
    expected = []
    for row, statement in zip(rows, statements, strict=True):
        values = tau_of_expected(np.array([row[name] for name in NUMBERS[:5]]), statement.reliable)
        numbers = dict(zip(NUMBERS[:5], map(float, values), strict=True))
        expected.append({**row, "statistic": "tau_expected", **numbers})
    return expected


def statements_of(study: Study, seed: int = 0, finer: Study | None = None) -> list[Statement]:
    """All statements of a study except `tau_expected`: tau and pi of all measures, then the increments, over the
    settings of `finer` if given: the same models, with settings in finer classes."""
    bases = Bases(study.levels)
    return [*taus(study, bases), *pis(study, bases), *increments(finer or study, seed)]


def statement_rows(
    statements: Sequence[Statement], study: Study, seed: int = 0, *, alone: bool = False
) -> list[dict[str, Any]]:
    """Tidy rows of a study's statements. The families: tau of all measures; pi of all measures, axes and values; the
    increments of all measures with each learner. alone: each measure has its own families."""
    rows: list[dict[str, Any]] = []
    for family in [[name] for name in study.measures] if alone else [study.measures]:
        members = [one for one in statements if one.key["measure"] in family]
        taus_, pis_ = ([one for one in members if one.key["statistic"] == name] for name in ("tau", "pi"))
        tau_rows = family_rows(taus_, seed=seed)
        rows += [*tau_rows, *(expected_rows(tau_rows, taus_) if study.se is not None else [])]
        rows += family_rows(pis_, two_sided=False, seed=seed) if pis_ else []
        for name, learner in itertools.product(INCREMENTS, LEARNERS):
            of_learner = [one for one in members if one.key["statistic"] == name and one.key["learner"] == learner]
            rows += family_rows(of_learner, two_sided=False, seed=seed) if of_learner else []
    return rows


def statements(study: Study, *, finer: Study | None = None, seed: int = 0, alone: bool = False) -> pd.DataFrame:
    """All statements of a study as tidy rows (columns: RESULT); finer: as in `statements_of`; alone: as in
    `statement_rows`."""
    rows = statement_rows(statements_of(study, seed, finer), study, seed, alone=alone)
    return pd.DataFrame(rows, columns=RESULT)
