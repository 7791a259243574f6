"""Labels of measures and correlations, shared by figures, tables and sentences."""

from collections.abc import Sequence

import numpy as np


def measure_label(column: str, columns: Sequence[str]) -> str:
    """'a.adv' -> 'a (adversarial)'; 'a' -> 'a (clean)' if both variants exist, else 'a'."""
    name = column.removesuffix(".adv")
    if column != name:
        return f"{name} (adversarial)"
    return f"{name} (clean)" if f"{name}.adv" in columns else name


def minus(text: str) -> str:
    """A number with a true minus sign: '-0.5' -> '−0.5'."""
    return text.replace("-", "−")


def signed(value: float) -> str:
    """A correlation: '+0.62', '−0.07', 'n/a'."""
    if np.isnan(value):
        return "n/a"
    return "0.00" if abs(value) < 0.005 else minus(f"{value:+.2f}")


def with_interval(estimate: float, low: float, high: float) -> str:
    """'−0.62 [−0.71, −0.50]'; no bracket if there is no interval. Ends keep their sign: −0.00 is below 0."""
    if np.isnan(low) or np.isnan(high):
        return signed(estimate)
    return minus(f"{signed(estimate)} [{low:+.2f}, {high:+.2f}]")


def count(number: int, word: str) -> str:
    """'1 model', '2 models'."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
