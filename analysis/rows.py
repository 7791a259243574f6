"""Tidy rows: the form in which every statistic is made."""

import math
from typing import Any

Row = dict[str, Any]
Interval = tuple[float, float, float]  # estimate, low, high


def tidy_row(found: Interval, n: int, undefined: int | None = None, **key: object) -> Row:
    """A row with `key`, (estimate, low, high), n and undefined: by default 1 if there is no estimate, else 0."""
    numbers = dict(zip(("estimate", "low", "high"), found, strict=True))
    return {**key, **numbers, "n": n, "undefined": int(math.isnan(found[0])) if undefined is None else undefined}
