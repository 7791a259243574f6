"""Flags of models: what each says, in words for readers, and which models headlines are also given without.

Flags come from training (best_is_last, catastrophic_overfitting, diverged), from the outcomes (robust_floor) and from
the analysis (outlying). A flagged model is kept.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustgap.analysis.labels import minus
from robustgap.analysis.ledger import BEST_IS_LAST, ROBUST_FLOOR, Ledger, split_flags
from robustgap.analysis.ledger.origins import OTHER_ARITHMETIC
from robustgap.analysis.models.outliers import residual_bound, residuals

DIVERGED, OUTLYING, OVERFITTED = "diverged", "outlying", "catastrophic_overfitting"
MASKING = "gradient_masking"
LEFT_OUT = (DIVERGED, OUTLYING, ROBUST_FLOOR, OVERFITTED)  # headlines are also given without the models that have one
ALL = "flagged"  # any of them


@dataclass(frozen=True)
class Words:
    """models: '3 models ...' in a sentence; reason: why a model is listed."""

    models: str
    reason: str


WORDS = {
    BEST_IS_LAST: Words(
        "whose run's best checkpoint is its last (one model, which stands at both)",
        "the best checkpoint is the last epoch: one model, which stands at both checkpoint rules",
    ),
    OVERFITTED: Words(
        "of a run with catastrophic overfitting",
        "in training, PGD accuracy on the validation images fell to less than half while FGSM accuracy stayed (log.csv"
        " says when; the best checkpoint may be from before); kept, and headlines are also given without such models",
    ),
    DIVERGED: Words(
        "whose training broke down",
        "the last clean training accuracy of log.csv is below three quarters of the highest: the training broke down"
        " and has not recovered (the best checkpoint is from after the first drop of the rate as well); kept, and"
        " headlines are also given without such models",
    ),
    OTHER_ARITHMETIC: Words(
        "trained in other arithmetic than most",
        "trained with other instructions, versions or threads than most runs (column arithmetic of runs): the same"
        " settings and seed give other weights there; kept",
    ),
    OUTLYING: Words(
        "with a gap far from what main effects and two-way interactions of the settings give",
        "gap far from what main effects and two-way interactions of the settings give; kept, and headlines are also"
        " given without such models",
    ),
    MASKING: Words(
        "with signs of gradient masking",
        "gradients mislead the attack, or outputs are probabilities, so robust accuracy may be too high; kept",
    ),
    ROBUST_FLOOR: Words(
        "with robust accuracy at or below chance",
        "robust accuracy is at or below chance; kept, and headlines are also given without such models",
    ),
    ALL: Words("with any of these flags", ""),
}


def words(flag: str) -> str:
    """'with robust accuracy at or below chance'; a flag that is not known by its name."""
    return WORDS[flag].models if flag in WORDS else f"flagged {flag}"


def has_flag(flags: pd.Series, flag: str) -> np.ndarray:
    """Which rows carry a flag."""
    return np.array([flag in split_flags(text) for text in flags], dtype=bool)


def left_out(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """{flag: which models (n,) bool have it} of the flags of LEFT_OUT that some have, but not all, and ALL of them
    together; {} where no model has one."""
    every = {flag: has_flag(table["flags"], flag) for flag in LEFT_OUT}
    every[ALL] = np.any([*every.values()], axis=0)
    return {flag: rows for flag, rows in every.items() if rows.any() and not rows.all()}


def model_table(ledger: Ledger, split: str = "train") -> pd.DataFrame:
    """`ledger.models(split)` with the flag `outlying` (analysis.models.outliers), and behind the flags the columns
    residual_OUTCOME of each model and bound_OUTCOME, beyond which it is outlying; NaN where they are not known."""
    table = ledger.models(split)
    residual = residuals(table, ledger.axes, ledger.outcome)
    bound = residual_bound(residual)
    far = np.abs(residual) > bound
    flags = [
        ";".join([*split_flags(text), *([OUTLYING] if out else [])])
        for text, out in zip(table["flags"], far, strict=True)
    ]
    found = table.assign(flags=pd.Series(flags, index=table.index, dtype=table["flags"].dtype))
    place = found.columns.get_loc("flags") + 1
    found.insert(place, f"residual_{ledger.outcome}", residual)
    found.insert(place + 1, f"bound_{ledger.outcome}", bound)
    return found


def reason(row: dict, flag: str, outcome: str) -> str:
    """Why a model (a row of `model_table`, with its `reason` in runs) is listed under a flag; of an outlying one with
    its numbers, of gradient masking with what was seen."""
    told = WORDS[flag].reason if flag in WORDS else "flagged"
    if flag == MASKING and row["reason"]:
        return f"{row['reason']}: {told}"
    if flag != OUTLYING:
        return told
    residual, bound = row[f"residual_{outcome}"], row[f"bound_{outcome}"]
    return f"{told} (residual {minus(f'{residual:+.1f}')} points, bound {bound:.1f})"
