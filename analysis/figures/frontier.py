"""Cost of each measure against its information: seconds per model and out-of-fold increment over the settings."""

import matplotlib.patheffects as effects
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustgap.analysis.figures import _facts, _forest
from robustgap.analysis.figures._style import GREY, INK, empty, look, plain, styled
from robustgap.analysis.labels import measure_label, minus
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics.reliability import costs
from robustgap.analysis.verdicts.claims import NEGLIGIBLE

ORDER = 9
TITLE = "Cost against information"
CAPTION = (
    "Each of {measures} measures: mean seconds per model (horizontal, logarithmic) against the increment in "
    "out-of-fold R² of the {quantity} ({threat}) that it alone brings over the settings ({n} models "
    "of {configurations} configurations; the settings by whichever of ridge regression and boosted trees was better "
    "inside the training folds). Bars: single 95 % intervals over configurations (uncorrected). Colour and marker: "
    "family (n: measures with a known cost and increment). The stepped line is the frontier: no cheaper measure "
    "adds as much. Numbers mark the measures on it, then the others that add most; their increments are listed at "
    "the right. Broken line: 0.01 in R². Small arrow heads: the interval extends beyond the panel; large ones: so "
    "does the increment itself. Images and hardware of this study; what measures computed in one process share is "
    "counted for the first of them."
)
RANGE = (-0.3, 0.6)
DASHES = (0, (4, 2))
NAMED = 16  # measures labelled with their names, those on the frontier first
AROUND = [(far * np.cos(turn), far * np.sin(turn)) for far in (9, 14, 20) for turn in np.arange(8) * np.pi / 4]


def data(statistics: Statistics) -> pd.DataFrame:
    """One row per measure with a known cost and increment: measure, family, seconds, estimate, low, high, n,
    frontier."""
    table = statistics.table("increments")
    table = table[(table["statistic"] == "increment") & (table["step"] == "measure") & (table["over"] == "settings")]
    table = table[(table["learner"] == "better") & (table["axis"] == "")]
    seconds = costs(statistics.ledger)["seconds"]
    rows = table[["measure", *_facts.NUMBERS, "n"]].assign(seconds=table["measure"].map(seconds))
    rows.insert(1, "family", [statistics.ledger.entry(measure)["family"] for measure in rows["measure"]])
    rows = rows[rows["estimate"].notna() & (rows["seconds"] > 0)].sort_values("seconds", kind="stable")
    before = rows["estimate"].astype(float).cummax().shift().fillna(-np.inf)
    return rows.assign(frontier=rows["estimate"] > before).reset_index(drop=True)


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """The measures to label: those on the frontier, cheapest first, then the strongest others in view."""
    others = rows[~rows["frontier"] & (rows["estimate"] >= RANGE[0])]
    others = others.sort_values("estimate", ascending=False, kind="stable")
    return pd.concat([rows[rows["frontier"]], others]).head(NAMED)


def boxes(x: np.ndarray, low: np.ndarray, high: np.ndarray, half: float) -> np.ndarray:
    """Rectangles (n, 4) around vertical line segments, as left, bottom, right, top."""
    return np.column_stack([x - half, low, x + half, high])


def overlaps(box: np.ndarray, others: np.ndarray) -> int:
    """Number of rectangles in `others` (n, 4) that overlap `box`."""
    apart = (others[:, :2] >= box[2:]) | (others[:, 2:] <= box[:2])
    return int((~apart.any(axis=1)).sum())


def number_points(axes: Axes, rows: pd.DataFrame, chosen: pd.DataFrame) -> None:
    """Write numbers beside the chosen points, each where it covers the fewest other numbers, marks and bars."""

    def points(column: str) -> np.ndarray:  # in points on the page (1/72 inch)
        inside = rows[column].fillna(rows["estimate"]).clip(*axes.get_ylim())
        return axes.transData.transform(np.column_stack([rows["seconds"], inside])) * 72 / axes.figure.dpi

    x, y = points("estimate").T
    marks, bars = boxes(x, y - 4, y + 4, 4), boxes(x, points("low")[:, 1], points("high")[:, 1], 1)
    taken = np.empty((0, 4))
    left, foot, right, top = np.array(axes.bbox.extents) * 72 / axes.figure.dpi
    for number, row in enumerate(rows.index.get_indexer(chosen.index), 1):
        half_size, placements = np.array([2.7 * len(str(number)) + 0.5, 4]), []
        for offset in AROUND:
            middle = np.array([x[row], y[row]]) + offset
            box = np.concatenate([middle - half_size, middle + half_size])
            outside = bool((box[:2] < (left, foot)).any() or (box[2:] > (right, top)).any())
            cost = (outside + overlaps(box, taken), overlaps(box, marks), overlaps(box, bars), float(np.hypot(*offset)))
            placements.append((cost, tuple(offset), box))
        _, offset, box = min(placements, key=lambda placement: placement[0])
        taken = np.vstack([taken, box])
        front = bool(chosen["frontier"].iloc[number - 1])
        words = axes.annotate(
            str(number),
            (rows["seconds"].iloc[row], float(np.clip(rows["estimate"].iloc[row], *axes.get_ylim()))),
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center_baseline",
            fontsize=8,
            weight="bold" if front else "normal",
            zorder=5,
        )
        words.set_path_effects([effects.withStroke(linewidth=2.2, foreground="white")])


def name_numbers(axes: Axes, statistics: Statistics, rows: pd.DataFrame, chosen: pd.DataFrame) -> None:
    """Key to the numbers, in its own panel: name and increment of each, and how many measures are out of view."""
    axes.axis("off")
    lines = [("on the frontier", INK, "bold", 0.0)]
    for number, row in enumerate(chosen.itertuples(), 1):
        if not row.frontier and lines[-1][1] == INK:
            lines.append(("not on it, but telling most", GREY, "bold", 0.03))
        line = f"{number:>2}  {measure_label(row.measure, statistics.ledger.columns)}  {minus(f'{row.estimate:+.3f}')}"
        lines.append((line, INK if row.frontier else GREY, "normal", 0.0))
    if hidden := int((rows["estimate"] < RANGE[0]).sum()):
        lines.append((f"below {minus(str(RANGE[0]))}: {hidden} of {len(rows)}", GREY, "normal", 0.03))
    height = 1.0
    for line, colour, weight, gap in lines:
        height -= gap
        axes.text(0, height, plain(line), color=colour, weight=weight, fontsize=7.5, va="top", transform=axes.transAxes)
        height -= 0.047


def draw_family(axes: Axes, rows: pd.DataFrame, appearance: tuple[str, str], low: float, high: float) -> None:
    """Marks and intervals of one family, with arrow heads where they leave the panel."""
    colour, marker = appearance
    x, estimates = rows["seconds"].to_numpy(), rows["estimate"].to_numpy()
    ends = rows["low"].clip(low, high), rows["high"].clip(low, high)
    axes.vlines(x, *ends, color=colour, lw=0.9, alpha=0.55)
    inside = (estimates >= low) & (estimates <= high)
    axes.plot(x[inside], estimates[inside], linestyle="", color=colour, marker=marker, markersize=6, zorder=3)
    for head, edge, over, bar in (
        ("v", low, estimates < low, rows["low"] < low),
        ("^", high, estimates > high, rows["high"] > high),
    ):
        for chosen, size in ((bar.to_numpy() & ~over, 3.5), (over, 8)):
            axes.plot(x[chosen], np.full(chosen.sum(), edge), linestyle="", color=colour, marker=head, markersize=size)


@styled
def draw(statistics: Statistics) -> Figure:
    """One point per measure; the frontier as a step line."""
    rows = data(statistics)
    if rows.empty:
        return empty(
            "no measure has both a cost and an increment over the settings\n(too few configurations, or no axes)"
        )
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    axes, beside = figure.subplots(1, 2, width_ratios=[3.4, 1])
    low, high = _forest.limits(rows, *RANGE)
    margin = 0.04 * (high - low)
    axes.set(xscale="log", ylim=(low - margin, high + margin))
    axes.set(xlabel="seconds per model", ylabel="increment in R² over the settings")
    axes.axhline(0, color=GREY, linewidth=0.9, zorder=1)
    axes.axhline(NEGLIGIBLE, color=INK, linewidth=0.8, linestyle=DASHES, zorder=1)
    entries = []
    ledger = statistics.ledger
    for index, family in enumerate(dict.fromkeys(ledger.entry(name)["family"] for name in ledger.columns)):
        family_rows = rows[rows["family"] == family]
        draw_family(axes, family_rows, look(index), low, high)
        entries.append(_forest.legend_entry(f"{family} (n = {len(family_rows)})", look(index)))
    front = rows[rows["frontier"]]
    heights = front["estimate"].clip(low, high)
    axes.plot(front["seconds"], heights, color=INK, lw=1, drawstyle="steps-post", zorder=2, alpha=0.7)
    entries.append(Line2D([], [], color=INK, linewidth=1, alpha=0.7, label="frontier"))
    entries.append(Line2D([], [], color=INK, linewidth=0.8, linestyle=DASHES, label=f"{NEGLIGIBLE} in R²"))
    figure.legend(handles=entries, loc="outside upper center", ncols=min(-(-len(entries) // 2), 6))
    chosen = named(rows)
    name_numbers(beside, statistics, rows, chosen)
    figure.draw_without_rendering()
    number_points(axes, rows, chosen)
    return figure
