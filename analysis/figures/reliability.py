"""Reliability of each measure: how well its values are reproduced with other training seeds or other images."""

import pandas as pd
from matplotlib.figure import Figure

from robustgap.analysis.figures import _facts, _forest
from robustgap.analysis.figures._style import empty, look, styled
from robustgap.analysis.statistics import Statistics

ORDER = 11
TITLE = "Reliability: would the measure say the same again?"
CAPTION = (
    "Reliability of each measure over seeds of training (left: intraclass correlation of its ranks among {n} models "
    "of {configurations} configurations) and over images (right: share of its variance over models that is not the "
    "sampling of images). 1: nothing would change; 0: the differences between models would be lost. Bars: single 95 % "
    "intervals (configuration bootstrap, {draws} draws); right of the panels: models used. Arrow heads: below 0. "
    "n/a: no second seed, or the measure gives no standard error. An unreliable measure cannot predict the gap, "
    "whatever its idea."
)
PANELS = {"seeds": ("over seeds of training", look(0)), "images": ("over images", ("#D55E00", "s"))}


def data(statistics: Statistics) -> pd.DataFrame:
    """The rows of the reliability table, measures in the order of the figure."""
    table = statistics.table("reliability")
    parts = [
        _facts.one_per_measure(statistics, table[table["statistic"] == name]).assign(statistic=name) for name in PANELS
    ]
    return pd.concat(parts, ignore_index=True)


@styled
def draw(statistics: Statistics) -> Figure:
    """Left: over seeds. Right: over images. One row per measure."""
    table = data(statistics)
    measures = _facts.measures_by_strength(statistics)
    if not measures:
        return empty("this ledger holds no measures")
    figure = Figure(figsize=(_forest.LABELS + 7, _forest.height(len(measures))), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (statistic, (what, appearance)) in zip(panels, PANELS.items(), strict=True):
        _forest.dress(axes, len(measures), 0, 1, [0, 0.25, 0.5, 0.75, 1])
        rows = table[table["statistic"] == statistic]
        _forest.draw_marks(axes, rows, 0, appearance)
        axes.set(title=what, xlabel="reliability")
        _forest.count_rows(axes, [f"{n:.0f}" for n in rows["n"].fillna(0)])
    _forest.name_rows(panels[0], measures, statistics)
    return figure
