"""Data of the report's linked scatter plots: settings, outcomes and measures of every model; and the BokehJS
library."""

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from robustgap.analysis.figures import _facts
from robustgap.analysis.labels import measure_label
from robustgap.analysis.ledger import CHECKPOINT, Ledger
from robustgap.analysis.outcome_names import GAP
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.words import CONDITIONS, outcome_name

DIGITS = 5  # significant digits of numbers in the page; plots show fewer
SCRIPTS = ("bokeh.min.js", "bokeh-api.min.js")


def library() -> str:
    """BokehJS as one script. Raises FileNotFoundError if the bokeh package is incomplete."""
    spec = importlib.util.find_spec("bokeh")  # located, not imported: only its files are needed
    if spec is None or spec.origin is None:
        raise FileNotFoundError("bokeh: no such package, wanted its scripts for the report (pip install bokeh)")
    folder = Path(spec.origin).parent / "server" / "static" / "js"
    code = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return code.replace("</script", "<\\/script")


def rounded(values: pd.Series) -> list[float | None]:
    """Numbers with DIGITS significant digits; None where missing or infinite."""
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values.astype(float)]


def outcome_labels(ledger: Ledger, table: pd.DataFrame) -> dict[str, str]:
    """{column: label} of the gaps, accuracies and losses that any model has, the study's outcome first."""
    labels = {ledger.outcome: ""}
    for outcome in dict.fromkeys([ledger.explained.shown, *ledger.outcome_ids]):
        name = outcome_name(outcome, CONDITIONS)
        labels |= {f"gap_{outcome}": f"gap, {name} (points)", f"{outcome}_test": f"test accuracy, {name} (%)"}
        labels |= {f"{outcome}_train": f"training accuracy, {name} (%)"}
        labels |= {f"loss_{outcome}_test": f"test loss, {name} (nats)"}
        labels |= {f"loss_{outcome}_train": f"training loss, {name} (nats)"}
    points = " (points)" if ledger.explained.kind == GAP else ""
    labels[ledger.outcome] = labels[ledger.outcome] or f"{ledger.outcome}{points}"
    return {column: label for column, label in labels.items() if column in table and table[column].notna().any()}


def content(statistics: Statistics) -> dict[str, Any] | None:
    """Models, settings, outcomes and measures by column, for the page's script; None if there is nothing to plot (no
    model with an outcome, or no measure)."""
    ledger, table = statistics.ledger, statistics.models
    shown = ledger.explained.shown
    outcomes = outcome_labels(ledger, table)
    if ledger.outcome not in outcomes or not ledger.columns:
        return None
    settings = list(dict.fromkeys([*ledger.axes, CHECKPOINT, "seed", "source"]))
    measures = _facts.measures_by_strength(statistics)
    return {
        "models": table["model"].tolist(),
        "flags": table["flags"].astype(str).tolist(),
        "outcome": ledger.outcome,
        "ceilings": _facts.ceiling_words(statistics),
        "attack": outcome_name(shown, CONDITIONS),
        "test": f"{shown}_test",
        "train": f"{shown}_train",
        "settings": {name: table[name].astype(str).tolist() for name in settings},
        "order": {axis: ledger.values(axis) for axis in ledger.axes},
        "outcomes": {name: rounded(table[name]) for name in outcomes},
        "measures": {name: rounded(table[name]) for name in measures},
        "labels": {**outcomes, **{name: measure_label(name, ledger.columns) for name in measures}},
        "colour": _facts.group_axis(statistics) or "source",
    }


def context(statistics: Statistics) -> dict[str, Any]:
    """Models, their numbers for the page's script, and the library; empty if there is nothing to plot."""
    models = content(statistics)
    data = as_script(models) if models else ""
    return {"library": library() if models else "", "models": models, "model_data": data}


def as_script(content: dict[str, Any]) -> str:
    """JSON that is safe inside a script element: no part of it can end the element."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
