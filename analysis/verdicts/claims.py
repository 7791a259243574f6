"""One verdict per measure, by a written rule, with the family-wise error over all measures held at 5 %.

The rules apply in this order (docs/claims.md justifies them by error rates on ledgers with known answers):

    sign depends on AXIS    two values of AXIS have family-wise intervals of pi wholly on opposite sides of 0
    replicates              the family-wise interval of tau excludes 0, on the side of the declared sign where there is
                            one, and those of the increment over the settings exclude 0 from above, by ridge regression
                            and by boosted trees, with a slope that has the sign of tau
    proxy of the settings   the family-wise interval of tau excludes 0, and the upper ends of both increments are below
                            NEGLIGIBLE in R2
    unresolved              none of these

Intervals are those of analysis.verdicts.statements. *Sign depends* is wrong about a measure with one true sign only if
a statement against that sign is wrong, so all of the 5 % can be spent on one side.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis import words
from robustgap.analysis.files import read_json
from robustgap.analysis.labels import minus, with_interval
from robustgap.analysis.model_table.checks import nearest
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.prediction.settings_regression import LEARNERS
from robustgap.analysis.ranks.bootstrap import interval_side
from robustgap.analysis.verdicts.statements import statements
from robustgap.analysis.verdicts.unmet import unmet

NEGLIGIBLE = 0.01
SIGN_DEPENDS, REPLICATES, PROXY, UNRESOLVED = "sign depends", "replicates", "proxy of the settings", "unresolved"
ENDS = ["low", "high", "family_low", "family_high", "family_p", "fdr_q"]
FAMILY_ENDS = ["estimate", "family_low", "family_high"]
SUFFIXES = ("", "_low", "_high", "_family_low", "_family_high")
RESULT = [
    *("measure", "verdict", "axis", "reason", "sign"),
    *("tau", "tau_low", "tau_high", "tau_family_low", "tau_family_high", "tau_family_p", "tau_fdr_q"),
    *("tau_expected", "tau_expected_low", "tau_expected_high"),
    *(f"increment_{name}{end}" for name in LEARNERS for end in SUFFIXES),
    *("n", "configurations"),
]
STATE_COLUMNS = [f"increment_state_{name}{end}" for name in LEARNERS for end in SUFFIXES]


def family_side(row: Mapping[str, Any]) -> int:
    """+1 (-1) if the family-wise interval lies wholly above (below) 0, else 0."""
    return interval_side(row["family_low"], row["family_high"])


def in_words(row: Mapping[str, Any]) -> str:
    """'+0.52 [+0.31, +0.68]' with the family-wise interval."""
    return with_interval(*(row[name] for name in FAMILY_ENDS))


def increment_text(row: Mapping[str, Any]) -> str:
    """An increment in R2 with three decimals: '+0.012 [+0.003, +0.021]'."""
    estimate, low, high = (row[name] + 0.0 for name in FAMILY_ENDS)
    return minus(f"{estimate:+.3f} [{low:+.3f}, {high:+.3f}]")


def sign_change(pis: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """The lowest and the highest pi of an axis with values on opposite sides of 0; of several axes, the pair furthest
    apart."""
    pairs = []
    for axis in dict.fromkeys(row["axis"] for row in pis):
        values = [row for row in pis if row["axis"] == axis]
        below, above = ([row for row in values if family_side(row) == sign] for sign in (-1, 1))
        if below and above:
            pairs.append((min(below, key=lambda row: row["estimate"]), max(above, key=lambda row: row["estimate"])))
    return max(pairs, key=lambda pair: pair[1]["estimate"] - pair[0]["estimate"]) if pairs else None


def increment_words(increments: Sequence[Mapping[str, Any]]) -> str:
    """'+0.012 [...] by ridge regression and +0.010 [...] by boosted trees'."""
    return " and ".join(f"{increment_text(row)} by {words.LEARNERS[row['learner']]}" for row in increments)


def judge_increments(
    tau: Mapping[str, Any], increments: Sequence[Mapping[str, Any]], sign: int | None
) -> tuple[str, str]:
    """Verdict and reason for a measure whose interval of tau excludes 0."""
    start = f"Tau is {in_words(tau)}"
    if any(np.isnan(row["family_low"]) for row in increments):
        return UNRESOLVED, f"{start}, but the configurations are too few for an increment over the settings."
    increment = f"the increment in R2 over the settings is {increment_words(increments)}"
    if all(row["family_high"] < NEGLIGIBLE for row in increments):
        return PROXY, f"{start}, but {increment}: below {NEGLIGIBLE} everywhere, so the settings alone say as much."
    if sign not in (None, family_side(tau)):
        return UNRESOLVED, f"{start}, on the side opposite to the declared sign ({'+' if sign == 1 else '−'})."
    if not all(row["family_low"] > 0 for row in increments):
        texts = [increment_words([row]) for row in increments]
        failure = unmet(increments, texts, NEGLIGIBLE)
        return UNRESOLVED, f"{start}, but the increment in R2 over the settings is {failure}."
    if any(row["slope"] != family_side(tau) for row in increments):
        return UNRESOLVED, f"{start}, but beyond the settings the relation has the other sign ({increment})."
    declared = "as declared" if sign else "no sign was declared: two-sided"
    return REPLICATES, f"{start} ({declared}), and {increment}."


def judge(rows: Sequence[Mapping[str, Any]], sign: int | None) -> tuple[str, str, str]:
    """Verdict, axis ('' except for *sign depends*) and a one-sentence reason, from the statements about one measure."""
    (tau,) = [row for row in rows if row["statistic"] == "tau"]
    if pair := sign_change([row for row in rows if row["statistic"] == "pi"]):
        low, high = pair
        axis = low["axis"]
        reason = f"Pi is {in_words(high)} at {axis} = {high['value']} but {in_words(low)} at {axis} = {low['value']}."
        return SIGN_DEPENDS, axis, reason
    if np.isnan(tau["estimate"]):
        return UNRESOLVED, "", "Tau is undefined: the measure is constant or has no values."
    if np.isnan(tau["family_low"]):
        return UNRESOLVED, "", f"Too few configurations ({tau['configurations']}) for a family-wise interval of tau."
    if not family_side(tau):
        return UNRESOLVED, "", f"The interval of tau includes 0: {in_words(tau)}."
    verdict, reason = judge_increments(tau, [row for row in rows if row["statistic"] == "increment"], sign)
    return verdict, "", reason


def verdicts(statement_table: pd.DataFrame, signs: Mapping[str, int | None]) -> pd.DataFrame:
    """One row per measure (columns: RESULT) from `analysis.verdicts.statements.statements`; signs: +1, -1 or None by
    measure."""
    rows = []
    for measure, group in statement_table.groupby("measure", sort=False):
        records, sign = group.to_dict("records"), signs.get(str(measure))
        verdict, axis, reason = judge(records, sign)
        row = {"measure": measure, "verdict": verdict, "axis": axis, "reason": reason, "sign": sign}
        for record in records:
            if record["statistic"] != "pi":
                name = "_".join(filter(None, (record["statistic"], record["learner"])))
                row |= {name: record["estimate"]}
                row |= {f"{name}_{end}": record[end] for end in ENDS}
            if record["statistic"] == "tau":
                row |= {"n": record["n"], "configurations": record["configurations"]}
        rows.append(row)
    state = STATE_COLUMNS if (statement_table["statistic"] == "increment_state").any() else []
    return pd.DataFrame(rows, columns=[*RESULT, *state]).astype({"sign": "Int64"})


def claims(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    signs: Mapping[str, int | None] | None = None,
    se: str | None = None,
    fine: pd.DataFrame | None = None,
    state: Sequence[str] = (),
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Verdicts and the statements they rest on.

    table: one row per model. axes: its columns of settings (`checkpoint` is not part of a configuration). se: column of
    the outcome's standard error from image sampling; without it there is no tau_expected. signs: the claimed sign of
    each measure's relation with the outcome; a measure without one is tested two-sided. fine: the table with the finer
    settings used by increments, if different (analysis.model_table.bins). state: columns of the training state, over
    which increments are also computed (increment_state); verdicts do not use these.
    """
    keys: dict[str, Any] = {"axes": axes, "outcome": outcome, "measures": measures}
    finer = None if fine is None else make_study(fine, **keys, state=state)
    statement_table = statements(make_study(table, **keys, se=se, state=state), finer=finer, seed=seed)
    return verdicts(statement_table, signs or {}), statement_table


def read_signs(path: str | Path, columns: Collection[str] | None = None) -> dict[str, int | None]:
    """{measure column: +1 | -1 | None} from JSON: either such a mapping, or a catalogue of measures as printed by
    `python -m robustgap.measures list --json`, whose adversarial variants are columns NAME.adv.

    columns: those of the table, if known. Raises ValueError for any other value, and LookupError for a name that is not
    a column; a catalogue may list more measures than the table has.
    """
    signs: dict[str, int | None] = {}
    for name, entry in read_json(Path(path)).items():
        if columns is not None and not isinstance(entry, dict) and name not in columns:
            hint = nearest(name, columns)
            raise LookupError(f"{path}: found the sign of {name!r}, wanted columns of the table{hint}")
        expects = (entry.get("expects") or {}) if isinstance(entry, dict) else {"clean": entry}
        if not isinstance(expects, dict):
            raise ValueError(f"{path}: found {json.dumps(expects)} as what {name!r} expects, wanted variants and signs")
        for variant, sign in expects.items():
            if sign not in (1, -1, None) or isinstance(sign, bool):
                raise ValueError(f"{path}: found sign {json.dumps(sign)} of {name!r}, wanted 1, -1 or null")
            signs[f"{name}.adv" if variant == "adversarial" else name] = sign
    return signs


def verdict_notes(measures: Sequence[str], signs: Mapping[str, int | None], se: str | None) -> list[str]:
    """Sentences telling the reader how the verdicts were reached."""
    notes = []
    if undeclared := [measure for measure in measures if signs.get(measure) is None]:
        notes.append(f"no declared sign, so tested two-sided: {', '.join(undeclared)}")
    if se is None:
        notes.append("no standard error of the outcome is named: tau with expected outcomes (tau_expected) is left out")
    notes.append(
        "columns: low, high and *_low, *_high are single 95 % intervals; family_low, family_high and family_p are "
        "family-wise (no wrong statement at all); fdr_q bounds the share of wrong ones, so it may be below family_p"
    )
    return notes
