"""Heat map of tau of every measure with every outcome, beside the agreement of the outcomes among themselves."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.patches import Rectangle

from robustgap.analysis.figures import _facts
from robustgap.analysis.figures._style import GREY, broken, empty, plain, styled
from robustgap.analysis.figures.heatmap import draw_block
from robustgap.analysis.outcome_names import GAP, LOSS, TEST, TRAIN
from robustgap.analysis.ranks.bootstrap import interval_side
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics._outcomes import asked
from robustgap.analysis.statistics.outcomes_tau import CEILINGS, FAMILY
from robustgap.analysis.words import CONDITIONS, outcome_name

ORDER = 12
TITLE = "Each measure with every outcome: gaps, robust accuracies and losses"
CAPTION = (
    "Kendall's τ of each measure (rows, strongest with the {quantity} first) with every outcome of the study "
    "(columns: attacks, norms and ε, under what is asked of them), over {n} models of {configurations} "
    "configurations, less those without the outcome. A frame and bold type mark cells whose family-wise 95 % "
    "interval, over all measures with that outcome, excludes 0. Below the line: the run-level noise ceiling of τ "
    "with each outcome; single intervals (configuration bootstrap, {draws} draws) are in the data. Right: τ between "
    "the outcomes themselves, above the diagonal between their gaps, below it between their test accuracies. Colours "
    "from −1 to +1. Hatched, n/a: undefined."
)
CELL = (0.4, 0.3)  # inches
WIDTH = 22  # characters of a column's name, per line
HEADINGS: dict[tuple[str, ...], str] = {
    (GAP, TRAIN): "gap",
    (TRAIN, TRAIN): "accuracy on\ntraining images",
    (TEST, TEST): "accuracy on\ntest images",
    (LOSS, TRAIN): "loss on\ntraining images",
    (LOSS, TEST): "loss on\ntest images",
}
COLUMNS = ["panel", "measure", "outcome", "other", "estimate", "low", "high", *FAMILY, "n", "marked"]
CEILING = "run-level ceiling"
LABELS = 3.4  # inches, for the names of measures and the colour bar


def panels(statistics: Statistics) -> dict[str, list[str]]:
    """Columns of each panel of tau, by its heading; the study's own outcome stands first if it is of no other panel."""
    found: dict[str, list[str]] = {}
    for name, column in asked(statistics.data).items():
        found.setdefault(HEADINGS.get((column.kind, *column.splits[:1]), "asked"), []).append(name)
    return found


def ids(statistics: Statistics) -> list[str]:
    """The outcomes of the square of agreement."""
    columns = asked(statistics.data).values()
    return list(dict.fromkeys(column.outcome for column in columns if column.kind in (GAP, TEST)))


def cells_of_agreement(statistics: Statistics) -> list[dict[str, object]]:
    """The square of agreement, row by row: gaps above the diagonal, test accuracies below it."""
    table, names = statistics.table("outcomes_agreement"), ids(statistics)
    by_pair = {(row["outcome"], row["other"]): row for row in table.to_dict("records")}
    rows = []
    for i, one in enumerate(names):
        for j, other in enumerate(names):
            pair = [f"gap_{name}" if j > i else f"{name}_test" for name in (one, other)]
            found = by_pair.get((pair[0], pair[1])) or by_pair.get((pair[1], pair[0])) or {}
            numbers = {name: found.get(name, np.nan) for name in ("estimate", "low", "high", "n")} if i != j else {}
            rows.append({"panel": "agreement", "outcome": pair[0], "other": pair[1], **numbers, "marked": False})
    return rows


def data(statistics: Statistics) -> pd.DataFrame:
    """One row per cell (columns: COLUMNS). panel: heading of the panel of tau, `ceiling`, or `agreement`; marked: the
    family-wise interval excludes 0."""
    table, measures = statistics.table("outcomes_tau"), _facts.measures_by_strength(statistics)
    taus = table[table["statistic"] == "tau"].set_index(["measure", "outcome"])
    ceilings = table[table["statistic"] == CEILINGS["run"]].set_index("outcome")
    rows: list[dict[str, object]] = []
    for heading, names in panels(statistics).items() if measures else ():
        for measure in measures:
            for name in names:
                found = taus.loc[(measure, name)] if (measure, name) in taus.index else pd.Series(dtype=float)
                numbers = {key: found.get(key, np.nan) for key in ("estimate", "low", "high", *FAMILY, "n")}
                marked = bool(interval_side(numbers["family_low"], numbers["family_high"]))
                rows.append({"panel": heading, "measure": measure, "outcome": name, **numbers, "marked": marked})
        for name in names:
            found = ceilings.loc[name] if name in ceilings.index else pd.Series(dtype=float)
            numbers = {key: found.get(key, np.nan) for key in ("estimate", "n")}
            rows.append({"panel": "ceiling", "measure": "", "outcome": name, **numbers, "marked": False})
    return pd.DataFrame([*rows, *(cells_of_agreement(statistics) if rows else [])], columns=COLUMNS)


def write_ceilings(axes: Axes, ceilings: pd.Series, row: int) -> None:
    """The ceilings as a row of numbers below the measures."""
    for column, value in enumerate(ceilings):
        text = "n/a" if np.isnan(value) else f"±{value:.2f}".replace("0.", ".")
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=GREY)
    axes.axhline(row - 0.5, color=GREY, linewidth=1.2)
    axes.set_ylim(row + 0.5, -0.5)


def label(outcome: str) -> str:
    """Name of an outcome at a column or row."""
    return plain(broken(outcome_name(outcome, CONDITIONS), WIDTH))


def draw_taus(
    figure: Figure, place: SubplotSpec, statistics: Statistics, cells: pd.DataFrame, parts: dict[str, list[str]]
) -> None:
    """Panels of tau side by side at a place of the figure, with one colour bar."""
    measures, widths = _facts.measures_by_strength(statistics), [len(columns) for columns in parts.values()]
    plots = place.subgridspec(1, len(parts), width_ratios=widths).subplots(sharey=True, squeeze=False)[0]
    for axes, (heading, columns) in zip(plots, parts.items(), strict=True):
        shown = [statistics.ledger.explain(name) for name in columns]
        labels = [label(one.outcome) if one.outcome else plain(one.column) for one in shown]
        image = draw_block(axes, cells[cells["panel"] == heading], labels, narrow=True)
        ceilings = cells[(cells["panel"] == "ceiling") & cells["outcome"].isin(columns)]
        write_ceilings(axes, ceilings["estimate"], len(measures))
        axes.set_title(heading, pad=8)
    plots[0].set_yticks(range(len(measures) + 1), [*(plain(statistics.label(name)) for name in measures), CEILING])
    bar = figure.colorbar(image, ax=list(plots), fraction=0.03, pad=0.02, aspect=30, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.set_label("Kendall's τ-b")
    bar.outline.set_visible(False)


def draw_agreement(axes: Axes, cells: pd.DataFrame, names: list[str]) -> None:
    """The square of agreement; its diagonal is left blank."""
    draw_block(axes, cells, [label(name) for name in names], narrow=True)
    for place in range(len(names)):  # over what draw_block says of an undefined cell
        blank = Rectangle((place - 0.5, place - 0.5), 1, 1, facecolor="white", edgecolor="white", zorder=5)
        axes.add_patch(blank)
    axes.set_yticks(range(len(names)), [label(name) for name in names])
    axes.set_aspect(CELL[1] / CELL[0], anchor="NW")
    axes.set_title("agreement of outcomes: gaps above,\ntest accuracies below the diagonal", pad=8)


@styled
def draw(statistics: Statistics) -> Figure:
    """Panels of tau for each thing asked, losses in a second row; at the end of the last row the agreement."""
    cells, names = data(statistics), ids(statistics)
    if cells.empty:
        return empty("no measure, or no outcome that two models have")
    parts, measures = panels(statistics), _facts.measures_by_strength(statistics)
    losses = {heading: columns for heading, columns in parts.items() if heading.startswith("loss")}
    rows = [{heading: columns for heading, columns in parts.items() if heading not in losses}, losses]
    rows = [row for row in rows if row]
    widths = [LABELS + CELL[0] * sum(map(len, row.values())) for row in rows]
    square = 1.9 + CELL[0] * len(names)
    height = 2.6 + CELL[1] * (max(len(measures), len(names)) + 1)
    size = (max([*widths[:-1], widths[-1] + square]), height * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(len(rows), 1)  # not parts of the figure, which `_style.save` could not make reproducible
    for number, (row, width) in enumerate(zip(rows, widths, strict=True)):
        halves = grid[number, 0].subgridspec(1, 2, width_ratios=[width, max(size[0] - width, 0.01)])
        draw_taus(figure, halves[0, 0], statistics, cells, row)
        if row is rows[-1]:
            draw_agreement(figure.add_subplot(halves[0, 1]), cells[cells["panel"] == "agreement"], names)
    title = f"{len(statistics.models)} models; framed: family-wise 95 % interval excludes 0"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    return figure
