"""Statistics shown in figures: read from the folder written by `python -m robustgap.analysis statistics`, otherwise
computed once."""

import pandas as pd

from robustgap.analysis.figures import _numbers
from robustgap.analysis.labels import with_interval
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.ledger_statistics import PARTS, Part
from robustgap.analysis.models.flags import model_table
from robustgap.analysis.statistics.files import read_statistic

MADE_WITH = {"statements": "claims", "comparisons": "claims"}  # tables computed together with another one
SHOWN = ("noise", "thresholds", "sign_errors", "environments", "increments", "selection", "reliability")
CEILINGS = {"run": "run-level ceiling", "configuration": "configuration-level ceiling"}


def table(ledger: Ledger, name: str) -> pd.DataFrame:
    """One table of `analysis.ledger_statistics` by name; read or computed once per ledger.

    Raises FileNotFoundError if the statistics folder given for this ledger lacks it.
    """
    known: dict[str, pd.DataFrame] = vars(ledger).setdefault("_tables", {})
    if name not in known and (folder := vars(ledger).get("_folder")):
        known[name] = read_statistic(folder, name)
    elif name not in known:
        part = Part(ledger, model_table(ledger), _numbers.correlations(ledger))
        made = PARTS[MADE_WITH.get(name, name)](part)
        known |= made if isinstance(made, dict) else {name: made}
    return known[name]


def prepare(ledger: Ledger) -> None:
    """Read or compute every table that a figure or caption shows."""
    _numbers.pooled(ledger)
    for name in SHOWN:
        table(ledger, name)


def by_measure(ledger: Ledger, rows: pd.DataFrame) -> pd.DataFrame:
    """One row per measure, strongest pooled tau first; rows: at most one per measure."""
    return rows.set_index("measure").reindex(_numbers.pooled(ledger).index).reset_index()


def ceilings(ledger: Ledger) -> dict[str, tuple[float, float, float]]:
    """{run | configuration: (estimate, low, high)} of the noise ceilings of tau, without undefined ones."""
    rows = table(ledger, "noise")
    rows = rows[(rows["statistic"] == "ceiling") & rows["estimate"].notna()].set_index("component")
    return {name: tuple(rows.loc[name, _numbers.NUMBERS]) for name in CEILINGS if name in rows.index}


def ceiling_words(ledger: Ledger) -> str:
    """'run-level 0.82 [0.73, 0.85], configuration-level 0.80 [0.70, 0.82], single 95 % intervals', or that they are
    undefined."""
    found = ceilings(ledger)
    told = [f"{name}-level {with_interval(*numbers).replace('+', '')}" for name, numbers in found.items()]
    return ", ".join([*told, "single 95 % intervals"]) if told else "undefined here"
