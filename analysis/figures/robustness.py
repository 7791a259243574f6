"""Train and test robust accuracy of every model, and the distribution of their difference, the gap."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from robustgap.analysis.figures import _facts
from robustgap.analysis.figures._style import GREY, INK, PALE, empty, legend, look, plain, scatter_group, styled
from robustgap.analysis.ledger import CHECKPOINT
from robustgap.analysis.outcome_names import GAP
from robustgap.analysis.statistics import Statistics

ORDER = 1
TITLE = "Accuracy on training and test images, and the gap between them"
CAPTION = (
    "Accuracy ({threat}) on training against test images, one point for each of {n} models, and the gap "
    "between the two. Colour and marker: {group}; filled: last checkpoint (or both in one), open: best. On the solid "
    "line the gap is 0. "
    "Where some models lie far below all others, the others are also shown enlarged. Typical standard error of a gap: "
    "{se} percentage points (median over models; image sampling only). In the rows, the vertical tick is the "
    "median, the thick bar the middle half of the models."
)

FEWEST_ENLARGED = 5  # models


def data(statistics: Statistics) -> pd.DataFrame:
    """One row per point: model, group, checkpoint, test and train accuracy (percent), gap and its se (points)."""
    explained, tables = statistics.ledger.explained, []
    name = explained.shown
    gap = explained.column if explained.kind == GAP else f"gap_{name}"
    for label, table in _facts.groups(statistics).items():
        columns = {"model": table["model"], "group": label, CHECKPOINT: table[CHECKPOINT]}
        columns |= {side: table[f"{name}_{side}"] for side in ("test", "train")}
        tables.append(pd.DataFrame({**columns, "gap": table[gap], "se_gap": table[f"se_{gap}"]}))
    points = pd.concat(tables, ignore_index=True)
    return points.dropna(subset=["test", "train"]).reset_index(drop=True)


def typical_se(statistics: Statistics) -> tuple[float, float]:
    """Median standard errors of test and train accuracy over models, in percentage points."""
    explained, rows = statistics.ledger.explained, statistics.ledger.outcomes
    rows = rows[rows["model"].isin(statistics.models["model"]) & (rows["outcome"] == explained.shown)]
    split = "train_rest" if explained.rest else "train"
    test, train = (100 * rows.loc[rows["split"] == part, "se"].median() for part in ("test", split))
    return test, train


def gap_lines(axes: Axes, points: pd.DataFrame) -> None:
    """The identity line, and thin labelled lines of constant gap."""
    axes.axline((0, 0), slope=1, color=GREY, linewidth=1.2, zorder=1)
    steps = MaxNLocator(4).tick_values(0, max(float(points["gap"].max()), 1))
    (low, high), (bottom, upper) = axes.get_xlim(), axes.get_ylim()
    for gap in [step for step in steps if step > 0]:
        axes.axline((0, gap), slope=1, color=PALE, linewidth=0.8, zorder=0)
        end = min(high, upper - gap)
        if end > low and end + gap > bottom:
            label = axes.annotate(f"gap {gap:g}", (end, end + gap), xytext=(2, 0), textcoords="offset points")
            label.set(fontsize=7, color=GREY, va="center", annotation_clip=False)
            if end < high:  # the line leaves through the top
                label.set(position=(0, 2), va="bottom", ha="center")


def draw_points(axes: Axes, points: pd.DataFrame, labels: list[str], ticks: int) -> None:
    """Train against test accuracy of some models, with lines of constant gap."""
    for index, label in enumerate(labels):
        group = points[points["group"] == label]
        scatter_group(axes, group["test"], group["train"], group[CHECKPOINT], index, size=26)
    axes.margins(0.08)
    axes.autoscale_view()
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    locator = MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10])
    for scale, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        # Fixed here: automatic ticks change during layout and exceed 100 percent.
        scale.set_ticks([tick for tick in locator.tick_values(low, high) if max(low, 0) <= tick <= min(high, 100)])
    gap_lines(axes, points)


def crowd(points: pd.DataFrame) -> pd.DataFrame:
    """The models above the widest empty interval of test accuracy if it is at least a third of the range, else all.

    Models without any robustness (Standard training) lie so far below the rest that the others would shrink to a blot.
    """
    accuracies = np.sort(points["test"].to_numpy())
    jumps = np.diff(accuracies)
    if len(jumps) == 0 or jumps.max() < (accuracies[-1] - accuracies[0]) / 3 or accuracies[-1] == accuracies[0]:
        return points
    return points[points["test"] > accuracies[jumps.argmax()]]


def draw_accuracies(axes: Axes, statistics: Statistics, points: pd.DataFrame, labels: list[str]) -> None:
    """Train against test accuracy, with the crowded region enlarged in the empty corner."""
    draw_points(axes, points, labels, 7)
    axes.set(
        xlabel=f"{_facts.kind(statistics)} accuracy on test images (%)",
        ylabel=f"{_facts.kind(statistics)} accuracy on training images (%)",
    )
    close = crowd(points)
    enlarged = FEWEST_ENLARGED <= len(close) < len(points)
    if enlarged:
        ground = Rectangle((0.5, 0.02), 0.43, 0.41, transform=axes.transAxes, facecolor="white", alpha=0.85)
        axes.add_patch(ground)  # keeps the panel's lines from crossing the inset's numbers
        inset = axes.inset_axes((0.56, 0.07, 0.36, 0.36))
        draw_points(inset, close, labels, 4)
        inset.tick_params(labelsize=7, length=2, pad=2)
        inset.spines[:].set(visible=True, color=GREY, linewidth=0.8)
        axes.indicate_inset_zoom(inset, edgecolor=GREY, alpha=0.7)
    draw_typical_se(axes, statistics, left=enlarged or emptier_left(axes, points))


def emptier_left(axes: Axes, points: pd.DataFrame) -> bool:
    """Whether the upper left corner of a panel is farther from all points than the lower right one."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = (points["test"] - left) / (right - left), (points["train"] - bottom) / (top - bottom)
    return bool(np.hypot(x, 1 - y).min() > np.hypot(1 - x, y).min())


def draw_typical_se(axes: Axes, statistics: Statistics, left: bool) -> None:
    """A cross of +-1 standard error, with its values, in the upper left or lower right corner.

    Text only if a cross would cover the models because the axes span only a few standard errors.
    """
    test, train = typical_se(statistics)
    wide, tall = np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())
    corner, side = ((0.03, 0.97), 1) if left else ((0.97, 0.03), -1)
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 7, "color": GREY}
    style |= {"ha": "left" if left else "right", "va": "top" if left else "bottom"}
    if 8 * max(test / wide, train / tall) < 1:
        axes.errorbar(
            [axes.get_xlim()[not left] + side * (0.03 * wide + test)],
            [axes.get_ylim()[left] - side * (0.03 * tall + train)],
            yerr=[train],
            xerr=[test],
            color=GREY,
            linewidth=1.2,
            capsize=2,
        )
        corner = (corner[0] + side * (0.03 + 2 * test / wide), corner[1])
    axes.annotate(f"typical ± 1 s.e.\n{test:.1f} (test), {train:.1f} (train)", corner, xytext=(0, 0), **style)


def spread_out(values: np.ndarray, height: float = 0.6) -> np.ndarray:
    """Vertical offsets that separate points with nearly equal values: (n,) within +-height / 2, deterministic."""
    edges = np.linspace(values.min(), values.max() + 1e-9, 30)
    bins, offsets = np.digitize(values, edges), np.zeros(len(values))
    for members in (np.flatnonzero(bins == b) for b in np.unique(bins)):
        step = min(0.12, height / max(len(members) - 1, 1))
        offsets[members] = step * (np.arange(len(members)) - (len(members) - 1) / 2)
    return offsets


def draw_rows(axes: Axes, points: pd.DataFrame, labels: list[str]) -> None:
    """The gap of each model in its group's row, with median and quartiles."""
    for row, label in enumerate(labels):
        group = points[points["group"] == label]
        if group.empty:
            axes.annotate("no model", (0.5, row), xycoords=("axes fraction", "data"), color=GREY, ha="center")
            continue
        y = row + spread_out(group["gap"].to_numpy())
        scatter_group(axes, group["gap"], y, group[CHECKPOINT], row, size=14)
        low, middle, high = group["gap"].quantile([0.25, 0.5, 0.75])
        axes.plot([low, high], [row, row], color=INK, linewidth=2.5, solid_capstyle="butt", zorder=3)
        axes.plot([middle], [row], color=INK, marker="|", markersize=13, markeredgewidth=2, zorder=3)
    counts = points["group"].value_counts()
    axes.set_yticks(range(len(labels)), [f"{plain(label)}\nn = {counts.get(label, 0)}" for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)


def draw_histogram(axes: Axes, points: pd.DataFrame, labels: list[str]) -> None:
    """Stacked histogram of the gap over all models."""
    gaps = [points.loc[points["group"] == label, "gap"] for label in labels]
    colours = [look(index)[0] for index in range(len(labels))]
    count = int(np.clip(2 * np.sqrt(len(points)), 6, 30))
    bins = np.linspace(points["gap"].min() - 1e-6, points["gap"].max() + 1e-6, count)
    axes.hist(gaps, bins=bins.tolist(), stacked=True, color=colours, edgecolor="white", linewidth=0.4)
    axes.set(ylabel="models", title=f"gap of all {len(points)} models")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(labelbottom=False)


@styled
def draw(statistics: Statistics) -> Figure:
    """Left: train against test robust accuracy. Right: histogram of the gap, above the gaps by group."""
    points, labels = data(statistics), list(_facts.groups(statistics))
    if points.empty:
        return empty("no model has accuracies on both training and test images")
    figure = Figure(figsize=(10.5, max(5, 2.6 + 0.55 * len(labels))), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[1.25, 1], height_ratios=[1, 2.2])
    left, top, rows = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
    draw_accuracies(left, statistics, points, labels)
    left.set_title(f"{len(points)} models, {_facts.threat(statistics)}")
    draw_histogram(top, points, labels)
    draw_rows(rows, points, labels)
    rows.set_xlabel(f"{_facts.kind(statistics)} generalization gap (percentage points)")
    top.sharex(rows)
    for axes in (top, rows):
        axes.axvline(0, color=PALE, linewidth=1, zorder=0)
    legend(figure, labels, points[CHECKPOINT])
    return figure
