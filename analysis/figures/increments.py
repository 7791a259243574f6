"""Increment ladder: what a measure adds to the prediction of the gap from settings and training state."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustgap.analysis.figures import _facts, _forest
from robustgap.analysis.figures._style import GREY, INK, empty, look, plain, say, styled
from robustgap.analysis.labels import measure_label
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.verdicts.claims import NEGLIGIBLE
from robustgap.analysis.words import LEARNERS

ORDER = 8
TITLE = "Beyond the settings: out-of-fold prediction of the gap, step by step"
CAPTION = (
    "Prediction of the {quantity} ({threat}) of {n} models of {configurations} configurations, in "
    "folds that keep seeds and checkpoints of a configuration together. Top: R² of each step (settings; with the "
    "training state; with one more measure, here the best of {measures}, chosen in hindsight and so too favourable; "
    "with the pair, or the sparse combination, that was chosen inside the training folds). Bottom: the increment in "
    "R² that each measure alone brings over the settings (left), and over settings and training state (right). "
    "Settings are predicted by ridge regression with all two-way interactions (circle) and by boosted trees "
    "(square). Bars: single 95 % intervals over configurations (uncorrected; those of the verdicts are family-wise). "
    "Broken line: 0.01, below which an increment is called negligible. An increment that holds is right of 0 under "
    "both. Arrow heads: beyond the panel. n/a: undefined."
)
LOOKS = {"ridge": look(0), "trees": ("#D55E00", "s")}
NAMES = {learner: f"settings by {words}" for learner, words in LEARNERS.items()}
STEPS = {
    "settings": "settings",
    "state": "+ training state",
    "measure": "+ best single measure",
    "pair": "+ best pair",
    "sparse": "+ sparse combination",
}
RANGE = (-0.5, 0.5)  # increments outside it are shown as arrow heads
WHY = "too few configurations (or no axes)\nto predict gaps from settings out of fold"


def data(statistics: Statistics) -> pd.DataFrame:
    """Rows of the increments table over all models: r2 of every step, and increments of single measures."""
    table = statistics.table("increments")
    table = table[(table["axis"] == "") & table["learner"].isin(LOOKS)]
    steps = (table["statistic"] == "r2") & (table["measure"] == "")
    single = (table["step"] == "measure") & table["statistic"].isin(["r2", "increment"])
    chosen = table[steps | single].drop(columns=["axis", "value"])
    return chosen.reset_index(drop=True)


def ladder_rows(table: pd.DataFrame, learner: str) -> pd.DataFrame:
    """R2 of each step with one learner, in the order of STEPS (index: step); `measure`: the best single measure."""
    rows = table[(table["statistic"] == "r2") & (table["learner"] == learner)]
    single = rows[rows["step"] == "measure"]
    deepest = "state" if (single["over"] == "state").any() else "settings"
    single = single[single["over"] == deepest].sort_values("estimate", ascending=False).head(1)
    chosen = pd.concat([rows[rows["step"] != "measure"], single])
    return chosen.set_index("step").reindex([step for step in STEPS if step in set(chosen["step"])])


def draw_ladder(axes: Axes, statistics: Statistics, table: pd.DataFrame) -> None:
    """R2 with intervals, one row per step; the chosen measures are listed at the right."""
    by_learner = {learner: ladder_rows(table, learner) for learner in LOOKS}
    steps = list(by_learner["ridge"].index)
    all_rows = pd.concat(by_learner.values())
    _forest.dress(axes, len(steps), *_forest.limits(all_rows, -1, 1))
    for offset, (learner, rows) in zip((-0.17, 0.17), by_learner.items(), strict=True):
        _forest.draw_marks(axes, rows, offset, LOOKS[learner])
    axes.set_yticks(range(len(steps)), [STEPS[step] for step in steps])
    axes.set(xlabel="out-of-fold R² of the gap", title="the ladder")
    if "measure" in steps:
        chosen = [rows.loc["measure", "measure"] for rows in by_learner.values()]
        best = dict.fromkeys(measure_label(name, statistics.ledger.columns) for name in chosen)
        words = plain(" / ".join(best))
        transform = axes.get_yaxis_transform()
        axes.text(1.01, steps.index("measure"), words, transform=transform, fontsize=7, color=GREY, va="center")


def draw_increments(axes: Axes, statistics: Statistics, table: pd.DataFrame, over: str) -> None:
    """The increment of each measure over one base, with both learners."""
    increments = table[(table["statistic"] == "increment") & (table["over"] == over)]
    axes.set_title("over the settings" if over == "settings" else "over settings and training state")
    if increments.empty:
        say(axes, "no column of the training state\nis known in this study", top=True)
        return
    axes.axvline(0, color=GREY, linewidth=0.9, zorder=1)
    axes.axvline(NEGLIGIBLE, color=INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    for offset, learner in zip((-0.17, 0.17), LOOKS, strict=True):
        rows = _facts.one_per_measure(statistics, increments[increments["learner"] == learner])
        _forest.draw_marks(axes, rows, offset, LOOKS[learner])
    axes.set_xlabel("increment in R²")


@styled
def draw(statistics: Statistics) -> Figure:
    """Top: R2 of the ladder. Bottom: the increment of each measure over settings, and over the training state."""
    table, measures = data(statistics), _facts.measures_by_strength(statistics)
    if table.empty or not measures:
        return empty(WHY)
    rows = _forest.height(len(measures), 2)
    figure = Figure(figsize=(_forest.LABELS + 8, rows + 2.4), layout="constrained")
    top, bottom = np.ravel(figure.subfigures(2, 1, height_ratios=[2.4, rows], squeeze=False))
    ladder, beside = top.subplots(1, 2, width_ratios=[1.6, 1])
    beside.axis("off")
    draw_ladder(ladder, statistics, table)
    entries = [_forest.legend_entry(NAMES[name], LOOKS[name]) for name in LOOKS]
    entries.append(Line2D([], [], color=INK, linewidth=0.8, linestyle=(0, (4, 2)), label=f"{NEGLIGIBLE} in R²"))
    beside.legend(handles=entries, loc="center left", bbox_to_anchor=(0.25, 0.5))
    panels = np.atleast_1d(bottom.subplots(1, 2, sharey=True))
    increments = table[table["statistic"] == "increment"]
    for axes, over in zip(panels, ("settings", "state"), strict=True):
        shown = increments[increments["over"] == over]
        _forest.dress(axes, len(measures), *_forest.limits(shown, *RANGE))
        draw_increments(axes, statistics, table, over)
    _forest.name_rows(panels[0], measures, statistics)
    return figure
