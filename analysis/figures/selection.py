"""Regret in robust accuracy when each measure picks a model, or the checkpoint of a run."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustgap.analysis.figures import _facts, _forest
from robustgap.analysis.figures._style import INK, empty, look, say, styled
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics.selection import CANDIDATES, LAST, RANDOM_CHOICE, VALIDATION

ORDER = 10
TITLE = "Picking a model by the measure: accuracy lost against the oracle"
CAPTION = (
    "Regret: {kind} test accuracy ({threat}) lost against the best candidate, in percentage points, by picking "
    "by each measure. Left: one of all models of " + str(CANDIDATES) + " configurations drawn at random; right: the "
    "checkpoint of each run. Circle: the direction is learned on other configurations; diamond: the direction that "
    "the measure's paper declares, where it does. Bars: single 95 % intervals (configuration bootstrap, {slow_draws} "
    "draws). Vertical lines with bands: picking at random, by validation accuracy, or always the last checkpoint, "
    "with their intervals. A measure is useful where its mark lies left of these lines. {n} models; n of each mark "
    "is in the data."
)
LOOKS = {"learned": look(0), "declared": ("#D55E00", "D")}
BASELINES: dict[str, tuple[str, Any]] = {
    RANDOM_CHOICE: ("#6b6b6b", "-"),
    VALIDATION: ("#009E73", "--"),
    LAST: ("#CC79A7", "-."),
}
CHOICES = {"model": "the model", "checkpoint": "the checkpoint of a run"}


def data(statistics: Statistics) -> pd.DataFrame:
    """One row per mark or line: measure (or other selector), choice, direction, estimate, low, high, n, undefined."""
    table = statistics.table("selection")
    return table[table["statistic"] == "regret"].drop(columns="statistic").reset_index(drop=True)


def draw_choice(axes: Axes, statistics: Statistics, regrets: pd.DataFrame, choice: str) -> None:
    """Regret of every measure for one kind of choice, with lines for selection without a measure."""
    axes.set_title(f"picking {CHOICES[choice]}")
    if regrets["estimate"].isna().all():
        say(axes, "nothing to choose from:\nno run has two checkpoints,\nor too few configurations", top=True)
        return
    for name, (colour, dashes) in BASELINES.items():
        for row in regrets[regrets["measure"] == name].itertuples(index=False):
            axes.axvspan(row.low, row.high, color=colour, alpha=0.1, linewidth=0, zorder=0)
            axes.axvline(row.estimate, color=colour, linestyle=dashes, linewidth=1.3, zorder=1)
    for direction, offset in (("learned", -0.16), ("declared", 0.16)):
        rows = _facts.one_per_measure(statistics, regrets[regrets["direction"] == direction])
        claimed = [direction == "learned" or bool(statistics.data.signs.get(name)) for name in rows["measure"]]
        _forest.draw_marks(axes, rows, offset, LOOKS[direction], shown=np.array(claimed))


@styled
def draw(statistics: Statistics) -> Figure:
    """Left: picking a model. Right: picking a run's checkpoint."""
    table, measures = data(statistics), _facts.measures_by_strength(statistics)
    if table.empty or not measures:
        return empty("no models, or no measures, to pick by")
    figure = Figure(figsize=(_forest.LABELS + 8, _forest.height(len(measures), 2)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, choice in zip(panels, CHOICES, strict=True):
        regrets = table[table["choice"] == choice]
        _forest.dress(axes, len(measures), *_forest.limits(regrets, 0, 100))
        draw_choice(axes, statistics, regrets, choice)
        axes.set_xlabel("accuracy lost against the oracle (percentage points)" if axes.axison else "")
    _forest.name_rows(panels[0], measures, statistics)
    entries = [_forest.legend_entry(f"direction {name}", LOOKS[name]) for name in LOOKS]
    for name, (colour, dashes) in BASELINES.items():
        if name in set(table["measure"]):
            entries.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=1.3, label=name))
    figure.legend(handles=entries or [Line2D([], [], color=INK)], loc="outside upper center", ncols=5)
    return figure
