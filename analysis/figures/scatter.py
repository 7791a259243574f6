"""Each measure against the gap, in small multiples."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from robustgap.analysis.figures import _facts
from robustgap.analysis.figures._style import GREY, MANY, broken, empty, legend, say, scatter_group, styled
from robustgap.analysis.labels import measure_label, with_interval
from robustgap.analysis.ledger import CHECKPOINT, VARIANTS
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.words import noun

ORDER = 3
TITLE = "Each measure against the gap"
CAPTION = (
    "Each of {measures} measures (horizontal) against the {quantity} ({threat}; vertical, {unit}), "
    "strongest pooled τ first; clean and adversarial forms have a panel each. One point per model ({n}); "
    "colour and marker: {group}; filled: last checkpoint (or both in one), open: best. Titles: Kendall's τ-b with its "
    "single 95 % interval (configuration bootstrap, {draws} draws); to be read beside the noise ceilings of τ "
    "({ceilings}). Typical standard error of a gap: {se} points (image sampling only). Logarithmic axes, where values "
    "span more than a factor of 30, say so."
)
ACROSS = (5, 4)  # panels per row: the choice that leaves fewer empty places is used
LETTERS = 28  # characters per line of a title
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SPAN = 30  # positive values with max / min above this get a logarithmic axis
WIDE_RANGE = 20  # values of both signs spanning more than this many interquartile ranges get a symlog axis


def data(statistics: Statistics) -> pd.DataFrame:
    """One row per point: measure, model, group, checkpoint, value of the measure, gap (percentage points)."""
    tables, measures = [], _facts.measures_by_strength(statistics)
    for label, table in _facts.groups(statistics).items():
        wide = table.rename(columns={statistics.ledger.outcome: "gap"})[["model", CHECKPOINT, "gap", *measures]]
        tables.append(wide.melt(["model", CHECKPOINT, "gap"], var_name="measure").assign(group=label))
    if not tables or not measures:
        return pd.DataFrame(columns=["measure", "model", "group", CHECKPOINT, "value", "gap"])
    points = pd.concat(tables, ignore_index=True).dropna(subset=["value", "gap"])
    rank = points["measure"].map({measure: index for index, measure in enumerate(measures)})
    points = points.iloc[np.argsort(rank, kind="stable")].reset_index(drop=True)
    return points[["measure", "model", "group", CHECKPOINT, "value", "gap"]]


def scaling(values: np.ndarray) -> dict[str, Any]:
    """Keyword arguments of `set_xscale` that suit the values: linear, log or symlog."""
    if len(values) == 0:
        return {"value": "linear"}
    if values.min() > 0:
        return {"value": "log" if values.max() > SPAN * values.min() else "linear"}
    low, high = np.quantile(values, [0.25, 0.75])
    middle = float(np.median(np.abs(values)))
    outlying = middle > 0 and np.ptp(values) > WIDE_RANGE * max(high - low, middle)
    return {"value": "symlog", "linthresh": middle} if outlying else {"value": "linear"}


def symlog_ticks(values: np.ndarray, linthresh: float) -> list[float]:
    """0, and on each side that has values, at most two powers of ten beyond `linthresh`."""
    ticks = [0.0]
    for sign, reach in ((-1, -values.min()), (1, values.max())):
        if reach > linthresh:
            first, last = np.ceil(np.log10(linthresh)) + 1, np.floor(np.log10(reach))
            ticks += [sign * 10.0**power for power in {last, np.ceil((first + last) / 2)} if power >= first]
    return sorted(ticks)


def power_of_ten(value: float, _: int | None = None) -> str:
    """Tick label of a power of ten: 0.001 -> '10⁻³', -100 -> '−10²', 0 -> '0'."""
    if value == 0:
        return "0"
    power = str(round(np.log10(abs(value)))).translate(RAISED)
    return f"{'−' if value < 0 else ''}10{power}"


def set_scale(axes: Axes, values: np.ndarray) -> str:
    """Set the scale and ticks of a panel's horizontal axis; returns a note about it."""
    scale = scaling(values)
    axes.set_xscale(**scale)
    if scale["value"] == "log":
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
    elif scale["value"] == "symlog":
        axes.set_xticks(symlog_ticks(values, scale["linthresh"]))
    if scale["value"] != "linear":
        axes.xaxis.set_major_formatter(FuncFormatter(power_of_ten))
        axes.xaxis.set_minor_locator(NullLocator())  # hundreds of minor ticks take seconds and add little
    else:
        constant = np.ptp(values) == 0
        axes.xaxis.set_major_locator(FixedLocator([float(values[0])]) if constant else MaxNLocator(4))
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 5))
    return "" if scale["value"] == "linear" else f", {scale['value']} scale"


def why_missing(statistics: Statistics, column: str) -> str:
    """The most common reason given for missing values of a column."""
    name = column.removesuffix(".adv")
    variants = [variant for variant, suffix in VARIANTS.items() if name + suffix == column]
    rows = statistics.ledger.measures
    rows = rows[(rows["measure"] == name) & rows["variant"].isin(variants)]
    reasons = rows.loc[rows["value"].isna() & (rows["reason"] != ""), "reason"].value_counts()
    return str(reasons.index[0]) if len(reasons) else ""


def draw_panel(axes: Axes, statistics: Statistics, column: str, points: pd.DataFrame, labels: list[str]) -> None:
    """Draw one measure."""
    tau, total = _facts.taus_by_strength(statistics).loc[column], len(statistics.models)
    title = f"τ = {with_interval(tau['estimate'], tau['low'], tau['high'])}"
    name = broken(measure_label(column, statistics.ledger.columns), LETTERS)
    axes.set_title(f"{name}\n{title}", fontsize=8.5, linespacing=1.25)
    if points.empty:
        say(axes, f"no defined value\n(n = 0 of {total})\n{why_missing(statistics, column)}".strip())
        return
    if len(points) * len(statistics.ledger.columns) > MANY:
        axes.set_rasterization_zorder(2.1)
    for index, label in enumerate(labels):
        group = points[points["group"] == label]
        scatter_group(axes, group["value"], group["gap"], group[CHECKPOINT], index, size=13)
    scale, missing = set_scale(axes, points["value"].to_numpy()), total - len(points)
    note = f"n = {len(points)}" + (f", {missing} missing" if missing else "") + scale
    axes.set_xlabel(note, fontsize=7, color=GREY, labelpad=1)


@styled
def draw(statistics: Statistics) -> Figure:
    """One panel per measure column, strongest pooled tau first."""
    points, labels, measures = (
        data(statistics),
        list(_facts.groups(statistics)),
        _facts.measures_by_strength(statistics),
    )
    if not measures:
        return empty("this ledger holds no measures")
    across = min(len(measures), min(ACROSS, key=lambda across: -len(measures) % across))
    down = -(-len(measures) // across)
    figure = Figure(figsize=(max(2.35 * across, 5.5), 2.2 * down + 0.5), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)  # shared axes take time quadratic in the panels
    low, high = (points["gap"].min(), points["gap"].max()) if len(points) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 1
    for index, axes in enumerate(panels.flat):
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylim(low - margin, high + margin)
        axes.tick_params(labelleft=index % across == 0)
    by_measure = dict(list(points.groupby("measure", sort=False)))
    for index, axes in enumerate(panels.flat):
        if index < len(measures):
            draw_panel(axes, statistics, measures[index], by_measure.get(measures[index], points.iloc[:0]), labels)
        else:
            axes.axis("off")
    figure.supylabel(_facts.with_unit(statistics, "\n"), fontsize=9, multialignment="center")
    against = noun(statistics.ledger.explained)
    xlabel = f"value of the measure ({against} of {len(statistics.models)} models, {_facts.threat(statistics)})"
    xlabel += f"\nnoise ceilings of τ: {_facts.ceiling_words(statistics)}"
    figure.supxlabel(xlabel, fontsize=9)
    legend(figure, labels, points[CHECKPOINT])
    return figure
