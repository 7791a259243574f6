"""Report data about a study besides its statistics: the grid, and how the ledger and the numbers were made."""

import json
from typing import Any

from robustgap.analysis.figures import _facts
from robustgap.analysis.ledger import NA, Ledger, text
from robustgap.analysis.ledger.origins import training_text
from robustgap.analysis.outcome_names import GAP
from robustgap.analysis.ranks.bootstrap import FEWEST_BLOCKS, LEVEL
from robustgap.analysis.statistics import Statistics


def either(value: object) -> str:
    """A value in an exclusion rule, or alternatives from a list."""
    return " or ".join(map(text, value)) if isinstance(value, list) else text(value)


def grid(ledger: Ledger) -> dict[str, Any]:
    """Axes with their values, settings that do not vary, and excluded combinations with reasons."""
    study = ledger.study["study"]
    fixed = {key: text(value) for key, value in study.get("settings", {}).items() if key not in ledger.axes}
    fixed |= {key: study[key] for key in ("data", "norm", "eps", "measure_images") if key in study}
    excluded = [
        {
            "where": ", ".join(f"{key} = {either(value)}" for key, value in rule.get("where", {}).items()),
            "reason": rule.get("reason", ""),
            "count": rule.get("count", ""),
        }
        for rule in ledger.study.get("excluded", [])
    ]
    seeds = [seed for seed in sorted(set(ledger.runs["seed"])) if seed != NA]
    sources = ledger.distinct["source"].value_counts().to_dict()
    axes = {axis: ledger.values(axis) for axis in ledger.axes}
    return {"axes": axes, "fixed": fixed, "excluded": excluded, "seeds": seeds, "sources": sources}


def seconds(ledger: Ledger) -> dict[str, float]:
    """Seconds spent on training (each run counted once), outcomes and measures."""
    runs = ledger.runs.drop_duplicates("run")
    outcomes = ledger.outcomes["seconds"].sum() if "seconds" in ledger.outcomes else float("nan")
    return {"training": runs["seconds"].sum(), "outcomes": outcomes, "measures": ledger.measures["seconds"].sum()}


def provenance(ledger: Ledger) -> dict[str, Any]:
    """What made the ledger."""
    codes = ledger.measures.groupby("measure")["code_id"].agg(lambda ids: ", ".join(sorted(set(map(str, ids)))))
    images = ledger.outcomes.groupby("split")["n"].max().to_dict()
    trained = [training_text(training) for training in ledger.study.get("trainings", [])]
    devices = [device for device in sorted(set(ledger.runs["device"].astype(str))) if device]
    return {
        "created": ledger.study.get("created", "not recorded"),
        "code": ledger.study.get("code", {}),
        "packages": ledger.study.get("packages", {}),
        "trained": trained or devices,
        "seconds": seconds(ledger),
        "codes": codes.to_dict(),
        "images": images,
    }


def context(statistics: Statistics) -> dict[str, Any]:
    """The grid, what made the ledger, and how the numbers were made."""
    ledger = statistics.ledger
    return {
        "facts": _facts.caption_fields(statistics),
        "explains_gap": ledger.explained.kind == GAP,
        "level": f"{LEVEL:.0%}".replace("%", " %"),
        "fewest": FEWEST_BLOCKS,
        "grid": grid(ledger),
        "made": provenance(ledger),
        "configuration": json.dumps(ledger.study, indent=1),
    }
