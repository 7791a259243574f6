"""Measure cards of the report: what each measure is, the tests behind it, its cost and its reliability."""

from typing import Any

import pandas as pd

from robustgap.analysis.labels import with_interval
from robustgap.analysis.ledger import Ledger, text
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics.reliability import costs

INTERVAL = ("estimate", "low", "high")


def context(statistics: Statistics) -> dict[str, Any]:
    """One card per measure of the study: its catalogue entry, and a row for each of its columns."""
    ledger, reliability = statistics.ledger, statistics.table("reliability")
    cards = []
    for name in dict.fromkeys(column.removesuffix(".adv") for column in ledger.columns):
        entry = ledger.entry(name)
        claims = [
            f"{'rises' if sign > 0 else 'falls'} with the gap" + (f" ({variant})" if variant != "none" else "")
            for variant, sign in (entry["expects"] or {}).items()
            if sign
        ]
        listed = {key: entry.get(key, []) for key in ("invariances", "proof")}
        defaults = ", ".join(f"{key} {text(value)}" for key, value in entry.get("defaults", {}).items())
        card = {"name": name, **entry, **listed, "defaults": defaults, "claims": claims}
        cards.append({**card, "rows": card_rows(name, ledger, reliability)})
    return {"cards": cards}


def card_rows(name: str, ledger: Ledger, reliability: pd.DataFrame) -> list[list[str]]:
    """[variant, seconds, passes, reliability over seeds, over images] of each column of a measure, as text."""
    cost_table, rows = costs(ledger), []
    variants = ledger.measures.loc[ledger.measures["measure"] == name, "variant"]
    plain = "without images" if (variants == "none").any() else "clean"
    estimates = reliability.set_index(["measure", "statistic"])[list(INTERVAL)]
    for column in (column for column in (name, f"{name}.adv") if column in ledger.columns):
        cost = [format(cost_table.loc[column, what], form) for what, form in (("seconds", ".2g"), ("forwards", ",.0f"))]
        reliabilities = [with_interval(*estimates.loc[(column, statistic)]) for statistic in ("seeds", "images")]
        variant = "adversarial" if column.endswith(".adv") else plain
        rows.append([variant, *(cell.replace("nan", "n/a") for cell in cost), *reliabilities])
    return rows
