"""Facts that several figures and the report show: measures by strength, groups of models, ceilings, threat model."""

import numpy as np
import pandas as pd

from robustgap.analysis.findings.numbers import FEWEST_CELL_GROUPS
from robustgap.analysis.labels import with_interval
from robustgap.analysis.ledger import BOTH, NA
from robustgap.analysis.models.baselines import MEASURE
from robustgap.analysis.models.checkpoints import is_both
from robustgap.analysis.models.design import configurations
from robustgap.analysis.outcome_names import OutcomeId
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.words import CONDITIONS, NORMS, condition, noun, outcome_name, quantity, unit

NUMBERS = ["estimate", "low", "high"]
CEILING_LABELS = {"run": "run-level ceiling", "configuration": "configuration-level ceiling"}


def taus_by_strength(statistics: Statistics) -> pd.DataFrame:
    """tau of each measure (columns estimate, low, high, n, undefined), strongest first, undefined ones last."""
    table = statistics.table("correlations")
    table = table[(table["statistic"] == "tau") & (table["kind"] == MEASURE)].set_index("measure")
    table = table[[*NUMBERS, "n", "undefined"]]
    strength = table["estimate"].abs().sort_values(ascending=False, na_position="last", kind="stable")
    return table.loc[strength.index]


def measures_by_strength(statistics: Statistics) -> list[str]:
    """The measures, strongest tau first."""
    return list(taus_by_strength(statistics).index)


def row_names(statistics: Statistics) -> list[str]:
    """Row names: the measures, strongest tau first, then baselines and controls in their own order."""
    others = [name for name, kind in statistics.kinds.items() if kind != MEASURE]
    return [*measures, *others] if (measures := measures_by_strength(statistics)) else []


def group_axis(statistics: Statistics) -> str | None:
    """The axis shown by colour and marker: the defense, else the study's first axis, else None."""
    return "defense" if "defense" in statistics.ledger.axes else next(iter(statistics.ledger.axes), None)


def group_label(axis: str, value: str) -> str:
    """Legend label of a value of the group axis: a defense's name, otherwise 'batch_size = 32'."""
    if value == NA:
        return f"{axis} unknown"
    return value if axis == "defense" else f"{axis} = {value}"


def groups(statistics: Statistics) -> dict[str, pd.DataFrame]:
    """Models by value of the group axis (keys: labels), in the study's order; a single group if there is no axis."""
    table, axis = statistics.models, group_axis(statistics)
    if axis is None:
        return {"all models": table}
    values = [*statistics.ledger.values(axis), *([BOTH] if is_both(table, [axis]).any() else [])]
    return {group_label(axis, value): table[table[axis] == value] for value in values}


def one_per_measure(statistics: Statistics, rows: pd.DataFrame) -> pd.DataFrame:
    """One row per measure, strongest pooled tau first; rows: at most one per measure."""
    return rows.set_index("measure").reindex(measures_by_strength(statistics)).reset_index()


def noise_ceilings(statistics: Statistics) -> dict[str, tuple[float, float, float]]:
    """{run | configuration: (estimate, low, high)} of the noise ceilings of tau, without undefined ones."""
    rows = statistics.table("noise")
    rows = rows[(rows["statistic"] == "ceiling") & rows["estimate"].notna()].set_index("component")
    return {name: tuple(rows.loc[name, NUMBERS]) for name in CEILING_LABELS if name in rows.index}


def ceiling_words(statistics: Statistics) -> str:
    """'run-level 0.82 [0.73, 0.85], configuration-level 0.80 [0.70, 0.82], single 95 % intervals', or that they are
    undefined."""
    ceilings = noise_ceilings(statistics)
    texts = [f"{name}-level {with_interval(*numbers).replace('+', '')}" for name, numbers in ceilings.items()]
    return ", ".join([*texts, "single 95 % intervals"]) if texts else "undefined here"


def threat(statistics: Statistics) -> str:
    """The attack and its budget as text: 'PGD-10, L∞, ε = 3/20', or 'PGD-10 at L2 1/2' for one of its own."""
    shown = statistics.ledger.explained.shown
    rows, label = statistics.ledger.outcomes, outcome_name(shown, CONDITIONS)
    rows = rows[rows["outcome"] == shown]
    study = statistics.ledger.study["study"]
    norms = [NORMS.get(norm, norm) for norm in sorted(set(rows["norm"])) or [study.get("norm", "unknown norm")]]
    budget = study.get("eps")
    budgets = [str(budget)] if budget is not None else [f"{eps:.4g}" for eps in sorted(set(rows["eps"]))]
    parts = OutcomeId.read(shown)
    own = parts.attack == "clean" or parts.norm
    return label if own else f"{label}, {' and '.join(norms)}, ε = {' or '.join(budgets)}"


def kind(statistics: Statistics) -> str:
    """Kind of accuracy behind the outcome: 'robust', or 'clean' if there is no attack."""
    return condition(statistics.ledger.explained)


def with_unit(statistics: Statistics, separator: str = " ") -> str:
    """'robust generalization gap (percentage points)': the label of an axis that shows the outcome."""
    explained = statistics.ledger.explained
    return quantity(explained) + (f"{separator}({unit(explained)})" if unit(explained) else "")


def tau_label(statistics: Statistics, name: str = "τ") -> str:
    """'τ with the gap': the label of an axis that shows correlations with the outcome."""
    return f"{name} with the {noun(statistics.ledger.explained)}"


def caption_fields(statistics: Statistics) -> dict[str, object]:
    """Values for captions; `se` in percentage points, `group` the label of the group axis."""
    table, axis = statistics.models, group_axis(statistics)
    group = "defense" if axis == "defense" else f"{axis} (this study has no defense axis)"
    error = statistics.data.se
    se = table[error].median() if error and len(table) else np.nan
    least = statistics.table("sign_errors")["min_ess"].max()
    return {
        "n": len(table),
        "configurations": len(np.unique(configurations(table, statistics.ledger.axes))),
        "measures": len(statistics.ledger.columns),
        "threat": threat(statistics),
        "kind": kind(statistics),
        "quantity": quantity(statistics.ledger.explained),
        "unit": unit(statistics.ledger.explained) or "its own unit",
        "group": group if axis else "nothing (this study has no axes)",
        "draws": statistics.ledger.draws,
        "slow_draws": statistics.ledger.slow_draws,
        "fewest": FEWEST_CELL_GROUPS,
        "ceilings": ceiling_words(statistics),
        "min_ess": "undefined" if np.isnan(least) else f"{least:g}",
        "se": "undefined" if np.isnan(se) else f"{se:.1f}",
    }
