"""Flags of models: their wording for readers, and the flags whose models are left out of a second set of headlines.

Flags come from training (best_is_last, catastrophic_overfitting, diverged), from the outcomes (robust_floor) and from
the analysis (outlying). Flagged models are kept.
"""

from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.labels import minus
from robustgap.analysis.ledger import GRADIENT_MASKING, ROBUST_FLOOR, Ledger, split_flags
from robustgap.analysis.models.outliers import residual_bound, residuals
from robustgap.analysis.words import FLAGS

DIVERGED, OUTLYING, OVERFITTED = "diverged", "outlying", "catastrophic_overfitting"
LEFT_OUT = (DIVERGED, OUTLYING, ROBUST_FLOOR, OVERFITTED)  # headlines are also given without such models
ALL = "flagged"  # any of them


def flag_words(flag: str) -> str:
    """'with robust accuracy at or below chance'; the name itself for an unknown flag."""
    return FLAGS[flag].models if flag in FLAGS else f"flagged {flag}"


def has_flag(flags: pd.Series, flag: str) -> np.ndarray:
    """Which rows have a flag."""
    return np.array([flag in split_flags(text) for text in flags], dtype=bool)


def left_out(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """{flag: models (n,) bool that have it} for flags in LEFT_OUT that some but not all models have, and ALL for their
    union; {} if no model has one."""
    rows_by_flag = {flag: has_flag(table["flags"], flag) for flag in LEFT_OUT}
    rows_by_flag[ALL] = np.any([*rows_by_flag.values()], axis=0)
    return {flag: rows for flag, rows in rows_by_flag.items() if rows.any() and not rows.all()}


def model_table(ledger: Ledger, split: str = "train") -> pd.DataFrame:
    """`ledger.models(split)` with the flag `outlying` (analysis.models.outliers), and after the flags the columns
    residual_OUTCOME and bound_OUTCOME, the residual beyond which a model is outlying; NaN if unknown."""
    table = ledger.models(split)
    residual = residuals(table, ledger.axes, ledger.outcome)
    bound = residual_bound(residual)
    far = np.abs(residual) > bound
    flags = [
        ";".join([*split_flags(text), *([OUTLYING] if out else [])])
        for text, out in zip(table["flags"], far, strict=True)
    ]
    flagged = table.assign(flags=pd.Series(flags, index=table.index, dtype=table["flags"].dtype))
    position = flagged.columns.get_loc("flags") + 1
    flagged.insert(position, f"residual_{ledger.outcome}", residual)
    flagged.insert(position + 1, f"bound_{ledger.outcome}", bound)
    return flagged


def reason(row: dict[str, Any], flag: str, outcome: str) -> str:
    """Why a model (a row of `model_table`, with its `reason` in runs) is listed under a flag: the numbers for an
    outlying model, the evidence for gradient masking."""
    text = FLAGS[flag].reason if flag in FLAGS else "flagged"
    if flag == GRADIENT_MASKING and row["reason"]:
        return f"{row['reason']}: {text}"
    if flag != OUTLYING:
        return text
    residual, bound = row[f"residual_{outcome}"], row[f"bound_{outcome}"]
    return f"{text} (residual {minus(f'{residual:+.1f}')} points, bound {bound:.1f})"
