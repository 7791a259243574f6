"""Forest plot of tau, and of psi and pi on every axis, for every measure, with the noise ceilings of tau."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustgap.analysis.figures import _facts, _forest
from robustgap.analysis.figures._style import INK, empty, look, say, styled
from robustgap.analysis.findings.numbers import FEWEST_CELL_GROUPS, cell_groups
from robustgap.analysis.statistics import Statistics

ORDER = 5
TITLE = "With everything else held fixed: ψ and π of every axis"
CAPTION = (
    "Left: Kendall's τ between each measure and the {quantity} ({threat}) over {n} models, strongest "
    "first; below them, in italics, baselines and controls. Then a panel for each axis: π (circle, mean τ among "
    "models that share a value of it) and ψ (square, mean τ within cells of models that differ in it alone). Bars: "
    "single 95 % intervals (uncorrected; configuration bootstrap, {draws} draws). An open mark has no interval, or "
    "is a ψ on fewer than {fewest} independent groups of cells. Right: n, the models that have the measure (in the "
    "data, n of ψ counts the defined cells). Broken lines: noise ceilings of τ over all models ({ceilings}), what a "
    "perfect measure would reach with these gaps. A measure whose ψ is near 0 wherever its τ is not may only know "
    "the settings. n/a: undefined."
)
LOOKS = {"pi": look(0), "psi": look(1)}
NAMES = {"pi": "π (sharing the axis' value)", "psi": "ψ (differing in the axis alone)"}


def data(statistics: Statistics) -> pd.DataFrame:
    """One row per mark: measure, statistic (tau | pi | psi), axis, estimate, low, high, n, undefined, few.

    few: psi rests on fewer independent groups of cells than a statement about it requires.
    """
    table = statistics.table("correlations")
    table = table[(table["value"] == "") & (table["given_axis"] == "")]
    table = table.set_index(["measure", "statistic", "axis"])[[*_facts.NUMBERS, "n", "undefined"]]
    panels = [("tau", ""), *((statistic, axis) for axis in statistics.ledger.axes for statistic in LOOKS)]
    wanted = [(measure, *panel) for panel in panels for measure in _facts.row_names(statistics)]
    marks = table.reindex(pd.MultiIndex.from_tuples(wanted, names=table.index.names)).reset_index()
    groups = cell_groups(statistics.ledger, statistics.models)
    few = [axis for axis, number in groups.items() if number < FEWEST_CELL_GROUPS]
    return marks.assign(few=(marks["statistic"] == "psi") & marks["axis"].isin(few))


def draw_axis(axes: Axes, marks: pd.DataFrame, axis: str) -> None:
    """Draw pi and psi of one axis."""
    axis_marks = marks[marks["axis"] == axis]
    if axis_marks["estimate"].isna().all():
        say(axes, f"no group of models that\nshares or differs in\n{axis} alone", 7.5, top=True)
        return
    for offset, statistic in ((-0.2, "pi"), (0.2, "psi")):
        rows = axis_marks[axis_marks["statistic"] == statistic]
        _forest.draw_marks(
            axes, rows, offset, LOOKS[statistic], hollow=(rows["few"] | rows["low"].isna()).to_numpy(bool)
        )


@styled
def draw(statistics: Statistics) -> Figure:
    """A panel for tau and one per axis; one row per measure."""
    marks = data(statistics)
    if marks.empty:
        return empty("this ledger holds no measures")
    measures, axes_names = list(dict.fromkeys(marks["measure"])), statistics.ledger.axes
    width = max(_forest.LABELS + _forest.COUNTS + 1.75 * (1 + len(axes_names)), 7)
    figure = Figure(figsize=(width, _forest.height(len(measures), 2)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, 1 + len(axes_names), sharey=True))
    for axes in panels:
        _forest.dress_tau(axes, len(measures), statistics)
    _forest.draw_marks(panels[0], marks[marks["statistic"] == "tau"], 0, (INK, "D"))
    _forest.name_rows(panels[0], measures, statistics)
    panels[0].set_title(f"τ, all {len(statistics.models)} models")
    for axes, axis in zip(panels[1:], axes_names, strict=True):
        axes.set_title(axis)
        draw_axis(axes, marks, axis)
        _forest.set_apart(axes, measures, statistics)
    _forest.count_rows(panels[-1], [f"n = {n:.0f}" for n in marks.loc[marks["statistic"] == "tau", "n"]])
    figure.supxlabel(_facts.tau_label(statistics, "Kendall's τ-b"), fontsize=9)
    entries = [_forest.legend_entry("τ", (INK, "D"))]
    entries += [_forest.legend_entry(NAMES[name], LOOKS[name]) for name in LOOKS if axes_names]
    figure.legend(handles=[*entries, *_forest.ceiling_entries(statistics)], loc="outside upper center", ncols=5)
    return figure
