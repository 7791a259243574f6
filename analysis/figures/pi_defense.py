"""tau of each measure within each defense: does a measure that works for one defense work for another?"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robustgap.analysis.figures import _facts, _forest
from robustgap.analysis.figures._style import INK, empty, legend, look, say, styled
from robustgap.analysis.statistics import Statistics

ORDER = 4
TITLE = "Does a measure work under every defense?"
CAPTION = (
    "Kendall's τ between each measure and the {quantity} ({threat}), left over all {n} models, right "
    "among the models that share a value (π in detail); in italics, baselines and controls. Colour and marker: "
    "{group}. Bars: single 95 % intervals (uncorrected; configuration bootstrap, {draws} draws); an open mark has no "
    "interval, as it rests on too few configurations; n/a: undefined, because the measure is missing or constant "
    "there. Right: n, the models that have the measure; where it is missing for some, also those of each value, in "
    "the order of the legend, which counts all models. Broken lines: noise ceilings of τ over all models "
    "({ceilings}). A measure that points to opposite sides for two values should not be pooled over them."
)


def data(statistics: Statistics) -> pd.DataFrame:
    """One row per mark: measure, statistic (tau | pi), axis, value, estimate, low, high, n, undefined."""
    table, axis = statistics.table("correlations"), _facts.group_axis(statistics)
    values = statistics.ledger.values(axis) if axis else []
    by_value = table[(table["statistic"] == "pi") & (table["axis"] == (axis or "")) & (table["value"] != "")]
    chosen = pd.concat([table[table["statistic"] == "tau"], by_value])
    chosen = chosen.set_index(["measure", "statistic", "value"])[[*_facts.NUMBERS, "n", "undefined"]]
    marks = [("tau", ""), *(("pi", value) for value in values)]
    wanted = [(measure, *mark) for measure in _facts.row_names(statistics) for mark in marks]
    chosen = chosen.reindex(pd.MultiIndex.from_tuples(wanted, names=chosen.index.names)).reset_index()
    chosen.insert(2, "axis", np.where(chosen["statistic"] == "pi", axis or "", ""))
    return chosen


def counts(statistics: Statistics, marks: pd.DataFrame) -> list[str]:
    """n of each row: 'n = 128', or 'n = 40: 0, 16, 16, 8' if the measure is missing for some models."""
    texts, total = [], len(statistics.models)
    for _, rows in marks.groupby("measure", sort=False):
        n, *by_value = (f"{n:.0f}" for n in rows["n"].fillna(0))
        texts.append(f"n = {n}" + (f": {', '.join(by_value)}" if by_value and int(n) < total else ""))
    return texts


@styled
def draw(statistics: Statistics) -> Figure:
    """Left: pooled tau. Right: tau within each defense (or each value of the study's first axis)."""
    marks, axis = data(statistics), _facts.group_axis(statistics)
    if marks.empty:
        return empty("this ledger holds no measures")
    measures = list(dict.fromkeys(marks["measure"]))
    values = statistics.ledger.values(axis) if axis else []
    figure = Figure(figsize=(10.5, 0.2 + _forest.height(len(measures), len(values))), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 1.9])
    _forest.dress_tau(left, len(measures), statistics)
    _forest.draw_marks(left, marks[marks["statistic"] == "tau"], 0, (INK, "D"))
    _forest.name_rows(left, measures, statistics)
    left.set(
        xlabel=_facts.tau_label(statistics), title=f"all {len(statistics.models)} models, {_facts.threat(statistics)}"
    )
    if axis is None:
        say(right, "this study has no axis,\nso no groups of models to compare within", top=True)
        _forest.count_rows(left, counts(statistics, marks))
        return figure
    _forest.dress_tau(right, len(measures), statistics)
    _forest.set_apart(right, measures, statistics)
    for index, value in enumerate(values):
        offset = 0.8 * ((index + 0.5) / len(values) - 0.5)
        _forest.draw_marks(right, marks[(marks["statistic"] == "pi") & (marks["value"] == value)], offset, look(index))
    what = "of each defense" if axis == "defense" else f"sharing a value of {axis} (no defense axis in this study)"
    right.set(xlabel=_facts.tau_label(statistics), title=f"among the models {what}")
    _forest.count_rows(right, counts(statistics, marks))
    counted = [f"{label} (n = {len(table)})" for label, table in _facts.groups(statistics).items()]
    legend(figure, counted, more=_forest.ceiling_entries(statistics))
    return figure
