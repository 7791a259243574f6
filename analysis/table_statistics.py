"""Computes the statistics of a user's table with one row per model, like analysis.ledger_statistics for a ledger.

Some statistics need columns besides settings, outcome and measures, and are left out if these are not named: `state`
(robust training accuracy, training loss) for baselines, partial tau, the threshold sweep and the training state of the
increment ladder; `target` (robust test accuracy) for selection, and `validation` (accuracy on validation images) for
comparison with picking by it. Without `images` (effective number of images behind an outcome, 1 / (1 / n_train + 1 /
n_test)), all pairs of models with different outcomes have equal weight in sign errors, which treat outcomes as
percentage points (`points_per_unit`); without `se`, image noise is part of the seeds' noise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.files import write_csv
from robustgap.analysis.model_table import ModelTable
from robustgap.analysis.models.baselines import Beside, beside_table, with_kinds
from robustgap.analysis.models.design import configurations
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.bootstrap import Bootstrap
from robustgap.analysis.statistics.correlations import correlations
from robustgap.analysis.statistics.increments import ladder
from robustgap.analysis.statistics.information import conditional_information
from robustgap.analysis.statistics.noise import noise
from robustgap.analysis.statistics.partial import partial_correlations
from robustgap.analysis.statistics.reliability import RESULT as RELIABILITY
from robustgap.analysis.statistics.reliability import over_seeds, seed_cells
from robustgap.analysis.statistics.selection import selection
from robustgap.analysis.statistics.sign_errors import environment_errors, sign_errors
from robustgap.analysis.statistics.simpson import simpson
from robustgap.analysis.statistics.thresholds import thresholds
from robustgap.analysis.verdicts.judged import judged

SLOW_DRAWS = 200  # upper limit of draws for slow statistics
UNITS = {"fractions": 100, "points": 1}  # of outcomes: percentage points per unit
DEFENSE = "defense"  # the axis within which thresholds are swept, if present


@dataclass(frozen=True)
class Columns:
    """Columns needed by some statistics (module docstring), and the declared sign of each measure."""

    state: Sequence[str] = ()
    target: str | None = None
    validation: str | None = None
    images: str | None = None
    se: str | None = None
    signs: Mapping[str, int | None] = field(default_factory=dict)
    unit: str | None = None  # of the outcome: one of UNITS, or None to infer it from the values


def points_per_unit(table: ModelTable, given: Columns) -> int:
    """100 if the outcome is a fraction, 1 if it is in percentage points.

    Fractions and their accuracies never exceed 1, and the standard error of a fraction from n images is at most 1 / (2
    sqrt(n)); anything larger is in points.
    """
    if given.unit:
        return UNITS[given.unit]
    rows = table.rows
    sizes = [rows[name].abs().max() for name in (table.outcome, given.target, given.validation) if name]
    noisy = given.se and given.images and (rows[given.se] > 0.5001 / np.sqrt(rows[given.images])).any()
    return UNITS["points"] if max(sizes) > 1 or noisy else UNITS["fractions"]


def unit_notes(table: ModelTable, given: Columns) -> list[str]:
    """Note on the assumed unit of the outcome, if it matters: with numbers of images."""
    if not given.images or given.unit:
        return []
    unit = next(name for name, points in UNITS.items() if points == points_per_unit(table, given))
    other = next(name for name in UNITS if name != unit)
    values = table.rows[table.outcome]
    told = f"outcome {table.outcome} ({values.min():.3g} to {values.max():.3g}) is taken to be in {unit}"
    return [f"{told}, for the weights of sign errors; if not, say `--outcome-unit {other}`"]


def seed_reliability(table: ModelTable, draws: int) -> pd.DataFrame:
    """Test-retest reliability over seeds of every measure (columns: those of analysis.statistics.reliability)."""
    block, rows = configurations(table.rows, table.axes), []
    weights = Bootstrap(draws).weights(np.zeros(block.max(initial=-1) + 1), "reliability")
    group, model = seed_cells(table.rows, table.axes)
    for name in table.measures:
        numbers, n = over_seeds(table.rows[name], group, block, weights, model)
        found = dict(zip(["estimate", "low", "high"], numbers, strict=True))
        rows.append({"measure": name, "statistic": "seeds", **found, "n": n, "undefined": len(table.rows) - n})
    return pd.DataFrame(rows, columns=RELIABILITY)


def table_correlations(table: ModelTable, beside: Beside, draws: int) -> pd.DataFrame:
    """Correlations of every measure, baseline and control (column `kind`)."""
    found = correlations(
        beside.table,
        axes=table.axes,
        outcome=table.outcome,
        measures=[*table.measures, *beside.kinds],
        seed_column=table.seed_column,
        own_seeds=table.own_seeds,
        draws=draws,
    )
    return with_kinds(found, beside.kinds)


def makers(table: ModelTable, beside: Beside, given: Columns, draws: int) -> dict[str, Callable[[], pd.DataFrame]]:
    """Functions that make each table of statistics, by name; except `correlations`, `simpson`, and those of
    analysis.verdicts.judged."""
    rows, axes, few = beside.table, table.axes, min(draws, SLOW_DRAWS)
    everything = [*table.measures, *beside.kinds]
    keys: dict[str, Any] = {"axes": axes, "outcome": table.outcome}
    asked: dict[str, Any] = {**keys, "measures": everything}
    kinds = partial(with_kinds, kinds=beside.kinds)
    fine = rows if table.fine is None else table.fine
    points = rows.assign(**{table.outcome: rows[table.outcome] * points_per_unit(table, given)})
    found: dict[str, Callable[[], pd.DataFrame]] = {
        "information": lambda: kinds(conditional_information(rows, **asked, seed_column=table.seed_column, draws=few)),
        "sign_errors": lambda: kinds(sign_errors(points, **asked, images=given.images, draws=few)),
        "environments": lambda: environment_errors(points, **keys, measures=table.measures, images=given.images),
        "noise": lambda: noise(rows, **keys, seed_column=table.seed_column, se=given.se, draws=few),
        "increments": lambda: ladder(make_study(fine, **keys, measures=table.measures), state=given.state),
        "reliability": lambda: seed_reliability(table, draws),
    }
    if given.state:
        within = DEFENSE if DEFENSE in axes else None
        found["partial"] = lambda: kinds(partial_correlations(rows, **asked, given=given.state, draws=draws))
        found["thresholds"] = lambda: pd.concat(
            [
                thresholds(rows, **keys, measures=table.measures, column=column, within=within, draws=few)
                for column in given.state
            ],
            ignore_index=True,
        )
    if target := given.target:
        options: dict[str, Any] = {"seed_column": table.seed_column, "signs": given.signs, "draws": few}
        options["validation"] = given.validation
        found["selection"] = lambda: kinds(selection(rows, axes=axes, target=target, measures=everything, **options))
    return found


def write_table_statistics(
    table: ModelTable, out: str | Path, given: Columns | None = None, *, draws: int = 2000
) -> list[Path]:
    """Write every statistic of the table into folder `out`, NAME.csv each; returns the files."""
    given = given or Columns()
    asked: dict[str, Any] = {"axes": table.axes, "outcome": table.outcome, "measures": table.measures}
    beside = beside_table(table.rows, table.axes, table.outcome, table.measures, given.state)
    found = table_correlations(table, beside, draws)
    made = {"correlations": found, "simpson": with_kinds(simpson(found), beside.kinds)}
    made |= judged(beside, **asked, signs=given.signs, se=given.se, fine=table.fine)
    ways = makers(table, beside, given, draws)
    made |= {name: ways[name]() for name in bar(ways, "statistics")}
    paths = [Path(out) / f"{name}.csv" for name in made]
    for path, content in zip(paths, made.values(), strict=True):
        write_csv(content, path)
    return paths
