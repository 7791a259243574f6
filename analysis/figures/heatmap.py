"""Heat map of tau, psi_k and pi_k of every measure, as a table with coloured cells."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from robustgap.analysis.figures import _facts, _forest
from robustgap.analysis.figures._style import GREY, INK, empty, styled
from robustgap.analysis.findings.numbers import FEWEST_CELL_GROUPS, cell_groups
from robustgap.analysis.labels import signed
from robustgap.analysis.statistics import Statistics

ORDER = 2
TITLE = "Which measures track the gap: τ, ψ and π"
CAPTION = (
    "Kendall's τ between each measure and the {quantity} ({threat}) over {n} models of "
    "{configurations} configurations, strongest first; below them, in italics, baselines and controls. ψ of an axis: "
    "mean τ within cells of models that differ in that axis only; π of an axis: mean τ among the models that share a "
    "value of that axis. A frame and bold type mark cells whose single 95 % interval (uncorrected; configuration "
    "bootstrap, {draws} draws) excludes 0 (ψ: where at least {fewest} independent groups of cells could have "
    "disagreed). Hatched, n/a: undefined, because the measure is missing or constant in every group. The colour "
    "scale is fixed from −1 to +1; the broken lines across it are the noise ceilings of τ over all models "
    "({ceilings}): a perfect measure would not be expected to lie beyond them. n: models in which the measure is "
    "defined (in the data, n of ψ counts the defined cells)."
)
COLOURMAP = "RdBu_r"
CELL = (0.64, 0.3)  # inches
HEADINGS = {"tau": "τ\nall models", "psi": "ψ\ndiffering in", "pi": "π\nsharing"}
BLANK = "#f2f2f2"


def panel_axes(statistics: Statistics) -> dict[str, list[str]]:
    """Columns of the figure by statistic: the axis of each column."""
    axes = {"psi": statistics.ledger.axes, "pi": statistics.ledger.axes} if statistics.ledger.axes else {}
    return {"tau": [""], **axes}


def data(statistics: Statistics) -> pd.DataFrame:
    """One row per cell, in row-major order: measure, statistic, axis, estimate, low, high, n, undefined, marked.

    marked: the interval excludes 0, and the estimate does not rest on fewer groups of cells than a statement about psi
    requires.
    """
    table = statistics.table("correlations")
    table = table[(table["value"] == "") & (table["given_axis"] == "")]
    table = table.set_index(["measure", "statistic", "axis"])[[*_facts.NUMBERS, "n", "undefined"]]
    columns = [(statistic, axis) for statistic, axes in panel_axes(statistics).items() for axis in axes]
    wanted = [(measure, *column) for measure in _facts.row_names(statistics) for column in columns]
    cells = table.reindex(pd.MultiIndex.from_tuples(wanted, names=table.index.names)).reset_index()
    groups = cell_groups(statistics.ledger, statistics.models)
    few = [axis for axis, number in groups.items() if number < FEWEST_CELL_GROUPS]
    clear = (cells["low"] > 0) | (cells["high"] < 0)
    return cells.assign(marked=clear & ~((cells["statistic"] == "psi") & cells["axis"].isin(few)))


def draw_cell(axes: Axes, row: int, column: int, value: float, marked: bool, narrow: bool = False) -> None:
    """Write the number of one cell and draw its frame; hatched if undefined. narrow: small, without the zero before the
    point."""
    ink = "white" if abs(value) > 0.65 else INK
    if np.isnan(value):
        blank = Rectangle((column - 0.5, row - 0.5), 1, 1, zorder=1, facecolor=BLANK, edgecolor="#bdbdbd", hatch="////")
        blank.set_linewidth(0)
        axes.add_patch(blank)
    elif marked:
        frame = Rectangle((column - 0.44, row - 0.41), 0.88, 0.82, fill=False, edgecolor=ink, linewidth=1.2)
        axes.add_patch(frame)
    box = {"facecolor": BLANK, "edgecolor": "none", "pad": 0.8} if np.isnan(value) else None
    weight = "bold" if marked else "normal"
    text, size = (signed(value).replace("0.", "."), 6.5) if narrow else (signed(value), 8)
    axes.text(column, row, text, ha="center", va="center", fontsize=size, color=ink, weight=weight, bbox=box)


def draw_block(axes: Axes, cells: pd.DataFrame, labels: list[str], narrow: bool = False) -> AxesImage:
    """Draw all cells of one statistic; `labels`: column names; narrow: with small numbers and upright names."""
    shape = (-1, len(labels))
    estimates = cells["estimate"].to_numpy(float).reshape(shape)
    marked = cells["marked"].to_numpy(bool).reshape(shape)
    masked = np.ma.masked_invalid(estimates)
    image = axes.imshow(masked, cmap=COLOURMAP, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    for (row, column), value in np.ndenumerate(estimates):
        draw_cell(axes, row, column, value, bool(marked[row, column]), narrow)
    axes.xaxis.tick_top()
    turned: Any = (
        {"rotation": 90, "ha": "center"} if narrow else {"rotation": 40, "ha": "left", "rotation_mode": "anchor"}
    )
    axes.set_xticks(range(len(labels)), labels, **turned)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


@styled
def draw(statistics: Statistics) -> Figure:
    """Rows: measures, strongest pooled tau first. Columns: tau, psi of each axis, pi of each axis."""
    cells, parts = data(statistics), panel_axes(statistics)
    if cells.empty:
        return empty("this ledger holds no measures")
    measures, widths = list(dict.fromkeys(cells["measure"])), [len(axes) for axes in parts.values()]
    size = (4 + CELL[0] * sum(widths), 2.1 + CELL[1] * len(measures))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, (statistic, names) in zip(panels, parts.items(), strict=True):
        image = draw_block(axes, cells[cells["statistic"] == statistic], names)
        axes.set_title(HEADINGS[statistic], loc="center" if statistic == "tau" else "left", pad=8)
    panels[0].set_yticks(range(len(measures)), [statistics.label(name) for name in measures])
    for axes in panels:
        _forest.set_apart(axes, measures, statistics)
    counts = panels[-1].secondary_yaxis("right")
    defined = cells.loc[cells["statistic"] == "tau", "n"]
    counts.set_yticks(range(len(measures)), [f"n = {n:.0f}" for n in defined], color=GREY)
    counts.tick_params(length=0)
    counts.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=panels, fraction=0.03, pad=0.02, aspect=30, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.set_label(_facts.tau_label(statistics, "Kendall's τ-b"))
    bar.outline.set_visible(False)
    _forest.draw_ceilings(bar.ax, statistics, along="y")
    title = f"{len(statistics.models)} models, {_facts.threat(statistics)}; framed: single 95 % interval excludes 0"
    title += f"\nnoise ceilings of τ (lines on the colour bar): {_facts.ceiling_words(statistics)}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    return figure
