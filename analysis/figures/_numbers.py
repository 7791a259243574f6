"""Numbers that several figures need, computed once per ledger: the table of models and the correlations."""

from pathlib import Path

import numpy as np
import pandas as pd

from robustgap.analysis.files import require_columns
from robustgap.analysis.findings.numbers import FEWEST_CELL_GROUPS
from robustgap.analysis.labels import measure_label
from robustgap.analysis.ledger import BOTH, NA, Ledger
from robustgap.analysis.models.baselines import MEASURE, Beside, beside_ledger
from robustgap.analysis.models.checkpoints import is_both
from robustgap.analysis.models.design import configurations
from robustgap.analysis.models.flags import model_table
from robustgap.analysis.statistics.correlations import RESULT
from robustgap.analysis.statistics.files import read_text
from robustgap.analysis.statistics.summary import ledger_correlations
from robustgap.analysis.words import CONDITIONS, NORMS

NUMBERS = ["estimate", "low", "high"]


def attack(ledger: Ledger) -> str:
    """The attack of the study's outcome: 'gap_pgd10_rest' -> 'pgd10'."""
    return ledger.outcome.removeprefix("gap_").removesuffix("_rest")


def models(ledger: Ledger) -> pd.DataFrame:
    """`analysis.models.flags.model_table` on the training images of the study's outcome; computed once per ledger."""
    split = "train_rest" if ledger.outcome.endswith("_rest") else "train"
    # cached_property stores its values in vars() too; a ledger's tables never change.
    if "_models" not in vars(ledger):
        vars(ledger)["_models"] = model_table(ledger, split)
    return vars(ledger)["_models"]


def beside(ledger: Ledger) -> Beside:
    """`models` with baselines and controls; computed once per ledger."""
    if "_beside" not in vars(ledger):
        vars(ledger)["_beside"] = beside_ledger(ledger, models(ledger), ledger.axes, ledger.outcome)
    return vars(ledger)["_beside"]


def correlations(ledger: Ledger) -> pd.DataFrame:
    """The tidy table of `analysis.statistics.summary.ledger_correlations`; computed once per ledger."""
    if "_correlations" not in vars(ledger):
        vars(ledger)["_correlations"] = ledger_correlations(ledger, beside(ledger))
    return vars(ledger)["_correlations"]


def read_correlations(path: Path) -> pd.DataFrame:
    """A written correlations.csv; keys stay text ('NA' is a value of an axis, not a missing number).

    Raises FileNotFoundError, or ValueError naming a missing column.
    """
    table = read_text(path)
    require_columns(table, [*RESULT, "kind"], path)
    for column in NUMBERS:
        table[column] = pd.to_numeric(table[column].replace("", np.nan))
    return table.astype({"n": int, "undefined": int})


def take(ledger: Ledger, folder: Path) -> None:
    """Use the statistics in `folder` for this ledger instead of computing them.

    Raises FileNotFoundError if correlations are missing, ValueError if they are not about this ledger's measures.
    """
    path = folder / "correlations.csv"
    table = read_correlations(path)
    lacking = [measure for measure in ledger.columns if measure not in set(table["measure"])]
    if lacking:
        raise ValueError(
            f"{path}: found no rows for measure {lacking[0]}, wanted one for each of the ledger's measures"
        )
    vars(ledger).update(_correlations=table, _folder=folder)


def pooled(ledger: Ledger) -> pd.DataFrame:
    """tau of each measure (columns estimate, low, high, n, undefined), strongest first, undefined ones last."""
    table = correlations(ledger)
    table = table[(table["statistic"] == "tau") & (table["kind"] == MEASURE)].set_index("measure")
    table = table[[*NUMBERS, "n", "undefined"]]
    strength = table["estimate"].abs().sort_values(ascending=False, na_position="last", kind="stable")
    return table.loc[strength.index]


def rows(ledger: Ledger) -> list[str]:
    """Row names: the measures, strongest tau first, then baselines and controls in their own order."""
    measures = list(pooled(ledger).index)
    return [*measures, *beside(ledger).kinds] if measures else []


def row_label(ledger: Ledger, name: str) -> str:
    """Label of a row: 'training loss (baseline)'."""
    kind = beside(ledger).kinds.get(name)
    return f"{name} ({kind})" if kind else measure_label(name, ledger.columns)


def group_axis(ledger: Ledger) -> str | None:
    """The axis shown by colour and marker: the defense, else the study's first axis, else None."""
    return "defense" if "defense" in ledger.axes else next(iter(ledger.axes), None)


def group_label(axis: str, value: str) -> str:
    """Legend label of a value of the group axis: a defense's name, otherwise 'batch_size = 32'."""
    if value == NA:
        return f"{axis} unknown"
    return value if axis == "defense" else f"{axis} = {value}"


def groups(ledger: Ledger) -> dict[str, pd.DataFrame]:
    """Models by value of the group axis (keys: labels), in the study's order; a single group if there is no axis."""
    table, axis = models(ledger), group_axis(ledger)
    if axis is None:
        return {"all models": table}
    values = [*ledger.values(axis), *([BOTH] if is_both(table, [axis]).any() else [])]
    return {group_label(axis, value): table[table[axis] == value] for value in values}


def threat(ledger: Ledger) -> str:
    """The attack and its budget as text: 'PGD-10, L∞, ε = 3/20'."""
    name = attack(ledger)
    rows = ledger.outcomes[ledger.outcomes["attack"] == name]
    study = ledger.study["study"]
    norms = [NORMS.get(norm, norm) for norm in sorted(set(rows["norm"])) or [study.get("norm", "unknown norm")]]
    given = study.get("eps")
    budgets = [str(given)] if given is not None else [f"{eps:.4g}" for eps in sorted(set(rows["eps"]))]
    label = CONDITIONS.get(name, name)
    return label if name == "clean" else f"{label}, {' and '.join(norms)}, ε = {' or '.join(budgets)}"


def kind(ledger: Ledger) -> str:
    """Kind of accuracy behind the outcome: 'robust', or 'clean' if there is no attack."""
    return "clean" if attack(ledger) == "clean" else "robust"


def facts(ledger: Ledger) -> dict[str, object]:
    """Values for captions; `se` in percentage points, `group` the label of the group axis."""
    table, axis = models(ledger), group_axis(ledger)
    group = "defense" if axis == "defense" else f"{axis} (this study has no defense axis)"
    se = table[f"se_{ledger.outcome}"].median() if len(table) else np.nan
    return {
        "n": len(table),
        "configurations": len(np.unique(configurations(table, ledger.axes))),
        "measures": len(ledger.columns),
        "threat": threat(ledger),
        "kind": kind(ledger),
        "group": group if axis else "nothing (this study has no axes)",
        "draws": ledger.draws,
        "slow_draws": ledger.slow_draws,
        "fewest": FEWEST_CELL_GROUPS,
        "se": "undefined" if np.isnan(se) else f"{se:.1f}",
    }
