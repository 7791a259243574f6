"""States for each learner which part of the rule about increments failed."""

from collections.abc import Mapping, Sequence
from typing import Any

ABOVE, BELOW, ABOVE_AND_BELOW, OPEN = "above 0", "negligible", "above 0 and negligible", "open"


def increment_position(low: float, high: float, negligible: float) -> str:
    """Position of an increment's family-wise interval, in words."""
    if low > 0:
        return ABOVE_AND_BELOW if high < negligible else ABOVE
    return BELOW if high < negligible else OPEN


def position_text(position: str, negligible: float) -> str:
    """'which is clearly above 0'."""
    texts = {
        ABOVE: "clearly above 0",
        BELOW: f"clearly below {negligible}, so not clearly above 0",
        ABOVE_AND_BELOW: f"clearly above 0, if below {negligible}",
        OPEN: f"neither clearly above 0 nor clearly below {negligible}",
    }
    return texts[position]


def unmet(increments: Sequence[Mapping[str, Any]], texts: Sequence[str], negligible: float) -> str:
    """'the increment ... is +0.21 [...] by ridge regression, clearly above 0, but +0.05 [...] by boosted trees, neither
    clearly above 0 nor clearly below 0.01'. texts: each increment with its interval and learner."""
    positions = [increment_position(row["family_low"], row["family_high"], negligible) for row in increments]
    if len(set(positions)) == 1:
        return f"{' and '.join(texts)}: {position_text(positions[0], negligible)}"
    parts = [f"{text}, {position_text(position, negligible)}" for text, position in zip(texts, positions, strict=True)]
    met = [part for part, position in zip(parts, positions, strict=True) if position in (ABOVE, ABOVE_AND_BELOW)]
    failed = [part for part, position in zip(parts, positions, strict=True) if position not in (ABOVE, ABOVE_AND_BELOW)]
    return ", but ".join(filter(None, [" and ".join(met), " and ".join(failed)]))
