"""Sign errors: how often each measure misorders two configurations when one setting changes, over environments."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustgap.analysis.figures import _facts, _forest
from robustgap.analysis.figures._style import GREY, PALE, empty, look, say, styled
from robustgap.analysis.statistics import Statistics

ORDER = 7
TITLE = "One setting changes: does the measure order the two configurations correctly?"
CAPTION = (
    "Sign error of each measure: an environment is a pair of configurations that differ in one axis; its error is "
    "the share of seed pairs that the measure orders differently from the {quantity} ({threat}), "
    "weighted by the confidence that the gaps differ. Left: environments of all axes; then each axis. Circle: mean, "
    "with its single 95 % interval (bootstrap of environments by configuration, {slow_draws} draws); triangle: 90th "
    "percentile; square: maximum, which has no interval; pale bar: from the least to the largest error. An "
    "environment counts where its effective sample size is at least {min_ess} (headings: how many of how many "
    "survive). Signs are raw: a measure that falls with the gap belongs at the right, and its worst case is the left "
    "end of its bar. 1/2 is chance. {n} models."
)
LOOKS = {"sign_error_mean": look(0), "sign_error_p90": ("#009E73", "^"), "sign_error_max": ("#D55E00", "s")}
NAMES = {"sign_error_mean": "mean", "sign_error_p90": "90th percentile", "sign_error_max": "maximum"}


def data(statistics: Statistics) -> pd.DataFrame:
    """One row per mark: measure, statistic, axis ('': all), estimate, low, high, n (surviving environments), undefined
    (dropped environments), least (smallest error of any), min_ess."""
    table = statistics.table("sign_errors")
    table = table[table["statistic"].isin(LOOKS)]
    single = statistics.table("environments")
    errors = pd.concat([single, single.assign(axis="")]).groupby(["measure", "axis"])["estimate"].min()
    least = [errors.get(key, np.nan) for key in zip(table["measure"], table["axis"], strict=True)]
    return table.drop(columns="value").assign(least=least).reset_index(drop=True)


def survivors(part: pd.DataFrame) -> tuple[int, int]:
    """(largest number of surviving environments of any measure, number of all environments)."""
    total = part["n"] + part["undefined"]
    return (int(part["n"].max()), int(total.max())) if len(part) else (0, 0)


def draw_panel(axes: Axes, statistics: Statistics, part: pd.DataFrame, what: str) -> None:
    """Mean, 90th percentile and maximum of every measure over the environments of one axis."""
    surviving, total = survivors(part)
    axes.set_title(f"{what}\n{surviving} of {total} survive", fontsize=8.5)
    if not surviving:
        none = "no two configurations\ndiffer in it alone"
        none_survive = "no environment survives:\nno gaps of such a pair\ndiffer beyond image noise"
        say(axes, none_survive if total else none, 7, top=True)
        return
    axes.axvline(0.5, color=GREY, linewidth=0.9, zorder=1)
    for index, (statistic, appearance) in enumerate(LOOKS.items()):
        rows = _facts.one_per_measure(statistics, part[part["statistic"] == statistic])
        if statistic == "sign_error_max":
            y = np.arange(len(rows))
            axes.hlines(y, rows["least"], rows["estimate"], color=PALE, linewidth=5, zorder=1)
        _forest.draw_marks(axes, rows, (index - 1) * 0.27, appearance, hollow=np.full(len(rows), False))


@styled
def draw(statistics: Statistics) -> Figure:
    """One panel for all axes together and one per axis; one row per measure."""
    marks, measures = data(statistics), _facts.measures_by_strength(statistics)
    if marks.empty or not measures:
        return empty("this study has no axes, or no measures: no pair of configurations to order")
    panel_axes = ["", *statistics.ledger.axes]
    width = max(_forest.LABELS + 1.7 * len(panel_axes), 7)
    figure = Figure(figsize=(width, _forest.height(len(measures), 3)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(panel_axes), sharey=True))
    for axes, axis in zip(panels, panel_axes, strict=True):
        _forest.dress(axes, len(measures), 0, 1, [0, 0.5, 1])
        draw_panel(axes, statistics, marks[marks["axis"] == axis], axis or "all axes")
    _forest.name_rows(panels[0], measures, statistics)
    if not panels[0].axison:
        panels[0].set_yticks([])
    figure.supxlabel("sign error (0: always ordered as the gap, 1: always the other way round)", fontsize=9)
    entries = [_forest.legend_entry(NAMES[name], LOOKS[name]) for name in LOOKS]
    entries.append(Line2D([], [], color=PALE, linewidth=5, label="least to largest"))
    figure.legend(handles=entries, loc="outside upper center", ncols=4)
    return figure
