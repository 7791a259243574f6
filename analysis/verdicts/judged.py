"""Computes the verdicts of a study: on its measures, and on the baselines and controls.

Families of measures contain measures only, and each baseline or control is its own family, so that none of them changes
a measure's numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from robustgap.analysis.models.baselines import BASELINE, MEASURE, Beside, with_kinds
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.verdicts.alike import groups_by_order
from robustgap.analysis.verdicts.claims import RESULT as CLAIM
from robustgap.analysis.verdicts.claims import UNRESOLVED, claims, verdicts
from robustgap.analysis.verdicts.comparisons import RESULT as COMPARISON
from robustgap.analysis.verdicts.comparisons import comparisons
from robustgap.analysis.verdicts.statements import RESULT as STATEMENT
from robustgap.analysis.verdicts.statements import statements

FAMILY_WISE = "All intervals here are family-wise: they hold for all measures together."
ROW_ALONE = "All intervals here are of this row alone, in no family with the measures."


def with_intervals_named(verdict: pd.DataFrame) -> pd.DataFrame:
    """Name the kind of interval in each reason."""
    words = [FAMILY_WISE if kind == MEASURE else ROW_ALONE for kind in verdict["kind"]]
    reasons = [f"{why} {word}" if "[" in why else why for why, word in zip(verdict["reason"], words, strict=True)]
    return verdict.assign(reason=reasons)


def undecided(measures: Sequence[str], kinds: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """The tables of `judged` if no verdict is possible. measures: with baselines and controls."""
    reason = "The grid has no two models with different outcomes."
    rows = [{"measure": name, "verdict": UNRESOLVED, "axis": "", "reason": reason} for name in measures]
    verdict = with_kinds(pd.DataFrame(rows, columns=CLAIM), kinds)
    verdict.insert(3, "group", "")
    statement = with_kinds(pd.DataFrame(columns=STATEMENT), kinds)
    return {"claims": verdict, "statements": statement, "comparisons": pd.DataFrame(columns=COMPARISON)}


def judged(
    beside: Beside,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    signs: Mapping[str, int | None] | None = None,
    se: str | None = None,
    fine: pd.DataFrame | None = None,
    state: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """The tables claims, statements and comparisons. signs, se, fine, state: as in `analysis.verdicts.claims.claims`.

    claims and statements have the column `kind`; claims also has `group`: the measures that order the models alike
    (analysis.verdicts.alike), '' for a measure without a group, and for baselines and controls.
    """
    table: pd.DataFrame = beside.table
    keys: dict[str, Any] = {"axes": axes, "outcome": outcome}
    verdict, statement = claims(table, **keys, measures=measures, signs=signs, se=se, fine=fine, state=state, seed=seed)
    keys_beside = {**keys, "measures": list(beside.kinds)}
    finer = None
    if fine is not None:
        columns = {name: table[name].to_numpy() for name in beside.kinds}
        finer = make_study(fine.assign(**columns), **keys_beside)
    others = statements(make_study(table, **keys_beside, se=se), finer=finer, seed=seed, alone=True)
    alike = groups_by_order(table, outcome=outcome, measures=measures)
    verdict = pd.concat([verdict, verdicts(others, {})], ignore_index=True)
    verdict = with_intervals_named(with_kinds(verdict, beside.kinds))
    verdict.insert(3, "group", verdict["measure"].map(alike).where(verdict["kind"] == MEASURE).fillna(""))
    statement = with_kinds(pd.concat([statement, others], ignore_index=True), beside.kinds)
    baselines = [name for name, kind in beside.kinds.items() if kind == BASELINE]
    pairs = comparisons(make_study(table, **keys, measures=measures), baselines, seed=seed)
    return {"claims": verdict, "statements": statement, "comparisons": pairs}
