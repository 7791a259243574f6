"""tau of each measure among models with training loss at most c, as a function of c, overall and per defense."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustgap.analysis.figures import _facts, _forest
from robustgap.analysis.figures._style import GREY, INK, PALE, broken, empty, look, plain, say, styled
from robustgap.analysis.labels import measure_label
from robustgap.analysis.statistics import Statistics

ORDER = 6
TITLE = "Among models that fit their training data well: τ by threshold"
CAPTION = (
    "Kendall's τ between each measure and the {quantity} ({threat}) among the models whose training "
    "loss (named below the panels) is at most c, for c at each tenth of the models (horizontal: the share of the {n} "
    "models that are at most c, with c and n at the bottom). n: those of them that have the measure; where they are "
    "fewer than the bottom says, their numbers at the same c stand over the panel. Black with band: all models, "
    "single 95 % interval (configuration bootstrap, {slow_draws} draws); colours with markers: within each defense, "
    "wherever there are enough configurations for a single interval, which is in the data file. If the defense "
    "does not vary, there is only the black line. Broken lines: noise ceilings of τ over all models ({ceilings})."
)
ACROSS = 6
LETTERS = 27  # characters per line of a title
LABELLED = (0.2, 0.6, 1.0)  # fractions of the models


def data(statistics: Statistics) -> pd.DataFrame:
    """The rows of the thresholds table, measures in the order of the panels."""
    table = statistics.table("thresholds")
    order = {measure: index for index, measure in enumerate(_facts.taus_by_strength(statistics).index)}
    rows = table[table["measure"].isin(order)]
    return rows.iloc[np.argsort(rows["measure"].map(order), kind="stable")].reset_index(drop=True)


def draw_panel(axes: Axes, statistics: Statistics, rows: pd.DataFrame, values: list[str]) -> None:
    """One measure: the curve over all models with its band, and one curve per value of the axis."""
    if rows["estimate"].isna().all():
        say(axes, "no defined value\n(constant, or\nmissing everywhere)", 7)
        return
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    _forest.draw_ceilings(axes, statistics, along="y")
    whole = rows[rows["value"] == ""]
    axes.fill_between(whole["quantile"], whole["low"], whole["high"], color=PALE, linewidth=0, zorder=0)
    axes.plot(whole["quantile"], whole["estimate"], color=INK, linewidth=1.8, marker="o", markersize=2.4, zorder=3)
    for index, value in enumerate(values):
        value_rows, (colour, marker) = rows[(rows["value"] == value) & rows["low"].notna()], look(index)
        axes.plot(
            value_rows["quantile"], value_rows["estimate"], color=colour, marker=marker, markersize=3, lw=0.9, alpha=0.9
        )


def labelled_cuts(rows: pd.DataFrame) -> pd.DataFrame:
    """The labelled cuts by quantile: threshold, and n of the measure known for the most models."""
    whole = rows[rows["value"] == ""].groupby("quantile").agg({"threshold": "first", "n": "max"})
    return whole[whole.index.isin(LABELLED)] if whole.index.isin(LABELLED).any() else whole.tail(1)


def heading(name: str, rows: pd.DataFrame, cuts: pd.DataFrame) -> str:
    """The measure's name above its panel, with its own n at the labelled cuts if these differ from the labels'."""
    n = rows[rows["value"] == ""].set_index("quantile").loc[cuts.index, "n"]
    counts = "" if n.equals(cuts["n"]) else f"\nn = {', '.join(f'{number:.0f}' for number in n)}"
    return plain(broken(name, LETTERS)) + counts


@styled
def draw(statistics: Statistics) -> Figure:
    """One panel per measure column, strongest pooled tau first."""
    rows = data(statistics)
    if rows.empty:
        return empty("no models with a measure and a training loss to sweep over")
    measures = list(dict.fromkeys(rows["measure"]))
    axis = next((name for name in rows["axis"] if name), None)
    values = [value for value in statistics.ledger.values(axis) if value in set(rows["value"])] if axis else []
    across = min(ACROSS, len(measures))
    down = -(-len(measures) // across)
    figure = Figure(figsize=(max(1.85 * across, 5.5), 1.45 * down + 1.3), layout="constrained")
    cuts = labelled_cuts(rows)
    labels = [f"{share:.0%}\nc = {cut.threshold:.3g}\nn = {cut.n:.0f}" for share, cut in cuts.iterrows()]
    panels = figure.subplots(down, across, squeeze=False)  # shared axes take time quadratic in the panels
    for index, (measure, axes) in enumerate(zip(measures, panels.flat, strict=False)):
        axes.set(ylim=(-1.05, 1.05), xlim=(0, 1.05), yticks=[-1, 0, 1])
        axes.set_xticks(cuts.index, labels, fontsize=6.5)
        axes.tick_params(labelleft=index % across == 0, labelbottom=index + across >= len(measures))
        name = measure_label(measure, statistics.ledger.columns).replace("(adversarial)", "(adv.)")
        measure_rows = rows[rows["measure"] == measure]
        axes.set_title(heading(name, measure_rows, cuts), fontsize=7)
        draw_panel(axes, statistics, measure_rows, values)
    for axes in list(panels.flat)[len(measures) :]:
        axes.axis("off")
    figure.supylabel(_facts.tau_label(statistics), fontsize=9)
    figure.supxlabel(f"share of the models with {rows['column'].iloc[0]} at most c", fontsize=9)
    entries = [Line2D([], [], color=INK, linewidth=1.8, marker="o", markersize=3, label="all models, 95 % band")]
    for index, value in enumerate(values):
        entries.append(_forest.legend_entry(_facts.group_label(str(axis), value), look(index)))
    entries += _forest.ceiling_entries(statistics)
    figure.legend(handles=entries, loc="outside upper center", ncols=min(len(entries), 7))
    return figure
