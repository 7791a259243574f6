"""Roles of further columns of a user's table, and the unit of its outcome.

Some statistics need columns besides settings, outcome and measures, and are left out if these are not named: `state`
(robust training accuracy, training loss) for baselines, partial tau, the threshold sweep and the training state of the
increment ladder; `target` (robust test accuracy) for selection, and `validation` (accuracy on validation images) for
comparison with picking by it. Without `images` (effective number of images behind an outcome, 1 / (1 / n_train + 1 /
n_test)), all pairs of models with different outcomes have equal weight in sign errors, which treat outcomes as
percentage points (`points_per_unit`); without `se`, image noise is part of the seeds' noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from robustgap.analysis.model_table import ModelTable

UNITS = {"fractions": 100, "points": 1}  # of outcomes: percentage points per unit


@dataclass(frozen=True)
class Roles:
    """Columns needed by some statistics (module docstring), and the declared sign of each measure."""

    state: Sequence[str] = ()
    target: str | None = None
    validation: str | None = None
    images: str | None = None
    se: str | None = None
    signs: Mapping[str, int | None] = field(default_factory=dict)
    unit: str | None = None  # of the outcome: one of UNITS, or None to infer it from the values


def points_per_unit(table: ModelTable, roles: Roles) -> int:
    """100 if the outcome is a fraction, 1 if it is in percentage points.

    Fractions and their accuracies never exceed 1, and the standard error of a fraction from n images is at most 1 / (2
    sqrt(n)); anything larger is in points.
    """
    if roles.unit:
        return UNITS[roles.unit]
    rows = table.rows
    sizes = [rows[name].abs().max() for name in (table.outcome, roles.target, roles.validation) if name]
    noisy = roles.se and roles.images and (rows[roles.se] > 0.5001 / np.sqrt(rows[roles.images])).any()
    return UNITS["points"] if max(sizes) > 1 or noisy else UNITS["fractions"]


def unit_notes(table: ModelTable, roles: Roles) -> list[str]:
    """Note on the assumed unit of the outcome, if it matters: with numbers of images."""
    if not roles.images or roles.unit:
        return []
    unit = next(name for name, points in UNITS.items() if points == points_per_unit(table, roles))
    other = next(name for name in UNITS if name != unit)
    values = table.rows[table.outcome]
    assumed = f"outcome {table.outcome} ({values.min():.3g} to {values.max():.3g}) is taken to be in {unit}"
    return [f"{assumed}, for the weights of sign errors; if not, say `--outcome-unit {other}`"]
