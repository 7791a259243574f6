"""Parts shared by the forest plots: rows of estimates with intervals, one row per measure."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from robustgap.analysis.figures import _facts
from robustgap.analysis.figures._style import GREY, INK, PALE, plain
from robustgap.analysis.models.baselines import MEASURE
from robustgap.analysis.statistics import Statistics

CEILING_DASHES = {"run": (0, (5, 2)), "configuration": (0, (1, 1.2))}
LABELS, COUNTS = 2.3, 0.4  # inches, for the names of measures and for the numbers of models
TALL = 40  # rows; taller panels get a second scale at the top


def height(rows: int, marks: int = 1) -> float:
    """Height in inches of a panel with this many rows and marks per row, including axis and heading."""
    return 1.5 + max(0.19, 0.1 * marks + 0.06) * rows


def dress(axes: Axes, rows: int, low: float, high: float, ticks: Sequence[float] | None = None) -> None:
    """Set the limits, row bands, grid and scale of a panel."""
    margin = 0.025 * (high - low)
    axes.set(xlim=(low - margin, high + margin), ylim=(rows - 0.5, -0.5))
    if ticks is not None:
        axes.set_xticks(ticks)
    for row in range(0, rows, 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f5f5f5", zorder=0, linewidth=0)
    axes.grid(axis="x", color=PALE, linewidth=0.5)
    axes.tick_params(axis="y", length=0)
    if rows > TALL:
        axes.tick_params(axis="x", top=True, labeltop=True)


def dress_tau(axes: Axes, rows: int, statistics: Statistics) -> None:
    """Style a panel of correlations: from -1 to +1, with a line at 0 and the noise ceilings on both sides."""
    dress(axes, rows, -1, 1, [-1, -0.5, 0, 0.5, 1])
    axes.axvline(0, color=GREY, linewidth=0.9, zorder=1)
    draw_ceilings(axes, statistics)


def draw_ceilings(axes: Axes, statistics: Statistics, along: str = "x") -> None:
    """Draw both noise ceilings of tau as thin dashed lines at + and - their estimate, on the axis that shows tau."""
    line = axes.axvline if along == "x" else axes.axhline
    for name, (estimate, *_) in _facts.noise_ceilings(statistics).items():
        for sign in (-1, 1):
            line(sign * estimate, color=INK, linewidth=0.8, linestyle=CEILING_DASHES[name], alpha=0.75, zorder=1)


def ceiling_entries(statistics: Statistics) -> list[Line2D]:
    """Legend entries of the ceilings that are defined."""
    return [
        Line2D(
            [],
            [],
            color=INK,
            linewidth=0.9,
            linestyle=CEILING_DASHES[name],
            label=f"{_facts.CEILING_LABELS[name]} of τ",
        )
        for name in _facts.noise_ceilings(statistics)
    ]


def name_rows(axes: Axes, measures: Sequence[str], statistics: Statistics) -> None:
    """Write the names of measures at the rows of the leftmost panel."""
    axes.set_yticks(range(len(measures)), [plain(statistics.label(name)) for name in measures])
    set_apart(axes, measures, statistics)


def set_apart(axes: Axes, names: Sequence[str], statistics: Statistics) -> None:
    """Set the names of baselines and controls in italics, below a separating line, at the ticks of a panel."""
    is_apart = [statistics.kinds[name] != MEASURE for name in names]
    for label, apart in zip(axes.get_yticklabels(), is_apart, strict=False):
        label.set_fontstyle("italic" if apart else "normal")
    first = len(names) - sum(is_apart)
    if first < len(names):
        axes.axhline(first - 0.5, color=GREY, linewidth=1.2, zorder=1, clip_on=False)


def count_rows(axes: Axes, words: Sequence[str]) -> None:
    """Write each row's n to the right of the rightmost panel."""
    counts = axes.secondary_yaxis("right")
    counts.set_yticks(range(len(words)), words, fontsize=6.5)
    counts.tick_params(length=0, labelcolor=GREY)
    counts.spines[:].set_visible(False)


def draw_marks(
    axes: Axes,
    rows: pd.DataFrame,
    offset: float,
    look: tuple[str, str],
    *,
    hollow: np.ndarray | None = None,
    shown: np.ndarray | None = None,
) -> None:
    """Draw estimates with their intervals, one per row, shifted down by `offset`; look: colour and marker.

    An estimate outside the panel's limits becomes an arrow head at the edge, an interval that continues past it a small
    one. An undefined estimate is written n/a, unless the row is not to be `shown`. A mark is open if it has no interval
    or, when given, if `hollow` says so.
    """
    colour, marker = look
    low, high = axes.get_xlim()
    estimates, y = rows["estimate"].to_numpy(float), np.arange(len(rows)) + offset
    lows, highs = (rows[end].to_numpy(float) for end in ("low", "high"))
    seen = ~np.isnan(lows) & (lows <= high) & (highs >= low)
    axes.hlines(y[seen], np.maximum(lows[seen], low), np.minimum(highs[seen], high), color=colour, lw=1.3, zorder=2)
    for place in y[np.isnan(estimates) if shown is None else np.isnan(estimates) & shown]:
        axes.text(
            0.01, place, "n/a", color=colour, fontsize=6, va="center_baseline", transform=axes.get_yaxis_transform()
        )
    inside = (estimates >= low) & (estimates <= high)
    bare = np.isnan(lows) if hollow is None else hollow
    for chosen, fill in ((inside & ~bare, colour), (inside & bare, "white")):
        (points,) = axes.plot(estimates[chosen], y[chosen], linestyle="", color=colour, marker=marker)
        points.set(markerfacecolor=fill, markersize=4.6, zorder=3)
    left, right = estimates < low, estimates > high
    for side, beyond, edge, size in (
        *(("<", left, low, 5), ("<", seen & (lows < low) & ~left, low, 3.5)),
        *((">", right, high, 5), (">", seen & (highs > high) & ~right, high, 3.5)),
    ):
        if beyond.any():  # with clipping off, an empty line breaks the layout
            axes.plot(np.full(beyond.sum(), edge), y[beyond], ls="", color=colour, marker=side, ms=size, clip_on=False)


def legend_entry(label: str, look: tuple[str, str]) -> Line2D:
    """A legend entry for a mark."""
    colour, marker = look
    return Line2D([], [], linestyle="", markersize=5.5, color=colour, marker=marker, label=plain(label))


def limits(rows: pd.DataFrame, floor: float, ceiling: float) -> tuple[float, float]:
    """The range of all intervals, extended to include 0 and clipped to [floor, ceiling]."""
    ends = rows[["estimate", "low", "high"]].to_numpy(float)
    ends = ends[np.isfinite(ends)]
    if not len(ends):
        return floor, ceiling
    low, high = max(min(float(ends.min()), 0), floor), min(max(float(ends.max()), 0), ceiling)
    return (low, high) if low < high else (floor, ceiling)
