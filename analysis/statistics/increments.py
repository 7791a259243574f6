"""Increment ladder: out-of-fold prediction of the outcome, adding one group of predictors at a time.

    settings     (a) the training settings
    state        (b) plus the training state: columns such as robust training accuracy and training loss
    measure      (c) plus one measure, a row for each
    pair         (d) or plus the best pair of measures, chosen among all pairs within the other folds
    sparse       (d) or plus a sparse combination of all measures: lasso, penalty chosen within the other folds

Each step adds to the prediction from settings the part of its columns that the settings do not explain
(analysis.prediction.gain), fitted together by least squares. The prediction from settings uses ridge regression,
boosted trees, and the `better` of the two by cross-validation within the other folds. Statistics: r2, tau (of
prediction with outcome) and increment (of r2 over the step named in `over`) for the normal scores of the outcome, on
which verdicts rest; r2_raw, mae_raw and increment_raw for the outcome in its own unit, predicted in the same way. Rows
with `axis` and `value`: the models with that value of the axis are predicted from all others, without that axis'
columns; r2 is relative to their own mean.

A model without a measure is predicted without it, and n of a step with one measure counts the models that have it; the
step is undefined if so few configurations have the measure that their settings alone could reproduce it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from robustgap.analysis.ledger import CHECKPOINT
from robustgap.analysis.models.study_table import Study, make_study
from robustgap.analysis.prediction.gain import normal_scores, sum_error
from robustgap.analysis.prediction.increment_statements import design_of
from robustgap.analysis.prediction.ladder_steps import Step, make_steps, steps_of
from robustgap.analysis.prediction.settings_regression import Design, make_design, out_of_fold
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.bootstrap import LEVEL
from robustgap.analysis.ranks.influence import tau_influence
from robustgap.analysis.rows import Interval, Row
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.view import COUNT, LABEL, Column, View, pivoted
from robustgap.analysis.words import BETTER

RESULT = [
    *("measure", "statistic", "step", "over", "learner", "axis", "value"),
    *("estimate", "low", "high", "n", "undefined", "members"),
]
STEP_WORDS = {
    "settings": "settings",
    "state": "+ training state",
    "measure": "+ one measure",
    "pair": "+ best pair",
    "sparse": "+ sparse combination",
}


def cluster_interval(estimate: float, parts: np.ndarray) -> tuple[float, float, float]:
    """95 % interval of a statistic from the contributions of configurations to its error (blocks,), which sum to 0:
    estimate -+ t sqrt(n / (n - 1) sum parts^2), with Student's t for n - 1 degrees of freedom."""
    n = len(parts)
    if n < 3 or np.isnan(estimate):
        return estimate, np.nan, np.nan
    half = float(stats.t.isf((1 - LEVEL) / 2, n - 1) * np.sqrt(n / (n - 1) * (parts**2).sum()))
    return estimate, estimate - half, estimate + half


def ratio_of_sums(top: np.ndarray, bottom: np.ndarray) -> tuple[float, np.ndarray]:
    """sum(top) / sum(bottom) over blocks, and the contributions to its error: (top - ratio bottom) / sum(bottom)."""
    total = float(bottom.sum())
    ratio = float(top.sum() / total) if total else np.nan
    return ratio, (top - ratio * bottom) / total if total else top


def quality(y: np.ndarray, predicted: np.ndarray, block: np.ndarray, *, raw: bool) -> dict[str, Interval]:
    """r2 and tau of predictions with intervals; with `raw`, r2_raw and mae_raw."""
    error = np.bincount(block, (y - predicted) ** 2)
    unexplained, parts = ratio_of_sums(error, np.bincount(block, (y - y.mean()) ** 2))
    r2 = cluster_interval(1 - unexplained, parts)
    if raw:
        mae = ratio_of_sums(np.bincount(block, np.abs(y - predicted)), np.bincount(block).astype(float))
        return {"r2_raw": r2, "mae_raw": cluster_interval(*mae)}
    tau, influence = tau_influence(predicted, y, block)
    return {"r2": r2, "tau": cluster_interval(tau, influence)}


def step_rows(
    study: Study,
    y: np.ndarray,
    steps: dict[tuple[str, str, str], Step],
    predicted: dict[str, np.ndarray],
    subset: dict[str, str],
    *,
    raw: bool,
) -> list[Row]:
    """Tidy rows of all steps with each learner, over the models in `subset` (axis, value; all models if empty).

    y (n,): the outcome (raw), or its normal scores; predicted: by each learner, (n,).
    """
    rows = []
    inside = study.table[subset["axis"]].to_numpy(str) == subset["value"] if subset else np.full(len(y), True)
    block = np.unique(study.block[inside], return_inverse=True)[1]
    counts = {measure: int(study.table.loc[inside, measure].notna().sum()) for measure in study.measures}
    for learner, base in predicted.items():
        for (name, over, measure), (added, members) in steps.items():
            key = {"measure": measure, "step": name, "over": over, "learner": learner, "members": members}
            key |= {column: subset.get(column, "") for column in ("axis", "value")}
            intervals = quality(y[inside], (base + added)[inside], block, raw=raw)
            if over:
                before = base + (steps["state", "settings", ""][0] if over == "state" else 0)
                squares = (y - before)[inside] ** 2 - (y - base - added)[inside] ** 2
                total = ((y[inside] - y[inside].mean()) ** 2).sum() or np.nan  # NaN for one model, or equal outcomes
                estimate, _, parts = sum_error(np.bincount(block, squares)[:, None] / total)
                intervals["increment_raw" if raw else "increment"] = cluster_interval(float(estimate[0]), parts[:, 0])
            for statistic, (value, low, high) in intervals.items():
                numbers = {"estimate": value, "low": low, "high": high, "n": counts.get(measure, int(inside.sum()))}
                rows.append({**key, "statistic": statistic, **numbers, "undefined": int(np.isnan(value))})
    return rows


def both_scales(
    study: Study,
    design: Design,
    folds: Sequence[np.ndarray],
    state: Sequence[str],
    subsets: list[dict[str, str]],
    *,
    seed: int,
) -> list[Row]:
    """Rows of all steps for the normal scores, then for the outcome in its own unit, over the models in each of
    `subsets` (axis, value; {}: all models, which includes the steps that combine measures)."""
    rows, outcome, combine = [], study.table[study.outcome].to_numpy(float), subsets == [{}]
    for raw in (False, True):
        y = outcome if raw else normal_scores(outcome)
        steps = steps_of(make_steps(design, y, study, state, folds), folds, combine=combine, seed=seed)
        cells = out_of_fold(design, design.means(y), folds, choose=combine, seed=seed)
        predicted = {learner: design.of_models(values[design.cell]) for learner, values in cells.items()}
        for subset in subsets:
            rows += step_rows(study, y, steps, predicted, subset, raw=raw)
    return rows


def ladder(study: Study, *, state: Sequence[str] = (), seed: int = 0) -> pd.DataFrame:
    """The ladder in folds of configurations, then with each value of each axis held out (columns: RESULT).

    study: `analysis.models.study_table.make_study`. state: columns of the training state in its table. The checkpoint
    rule is not held out: its values share their runs. Empty if there are too few configurations for any settings.
    """
    rows: list[Row] = []
    design, folds = design_of(study, seed)
    if design.order:
        rows += both_scales(study, design, folds, state, [{}], seed=seed)
    for axis in bar([axis for axis in study.axes if axis != CHECKPOINT], "axis values left out"):
        rows += left_out_rows(study, axis, state, seed)
    return pd.DataFrame(rows, columns=RESULT)


def left_out_rows(study: Study, axis: str, state: Sequence[str], seed: int) -> list[Row]:
    """Rows with each value of the axis held out in turn."""
    others = [other for other in study.axes if other != axis]
    if not others:
        return []  # no settings left to predict from
    values, index = np.unique(study.table[axis].to_numpy(str), return_inverse=True)
    first = np.unique(study.block, return_index=True)[1]
    held_out = int(np.bincount(index[first]).max())
    design = make_design(study.table, others, study.outcome, study.block, held_out, apart=[axis])
    if not design.order:
        return []
    subsets = [{"axis": axis, "value": str(value)} for value in values]
    return both_scales(study, design, [index[first][design.block]], state, subsets, seed=seed)


def compute(data: StudyData) -> pd.DataFrame:
    """The ladder with the training state: accuracy under the outcome's attack and cross-entropy on training images
    (adversarial if the study measured it); of a user's table, the columns that it names."""
    if not data.decidable:
        return pd.DataFrame(columns=RESULT)
    models = data.models if data.fine is None else data.fine
    return ladder(make_study(models, **data.of_measures), state=data.state)


def ladder_view(statistics: Statistics) -> View:
    rows = statistics.table("increments")
    rows = rows[(rows["axis"] == "") & (rows["measure"] == "")]
    names = rows["statistic"]
    frame = pivoted(rows, ["step", "learner"], names)
    chosen = rows.loc[names == "r2", ["step", "learner", "members"]]  # on the raw scale others may have been chosen
    frame = frame.merge(chosen, on=["step", "learner"], how="left")
    frame = frame.assign(shown=frame["step"].map(STEP_WORDS), by=frame["learner"].map(BETTER))
    if len(frame):
        position = frame["step"].map({step: number for number, step in enumerate(STEP_WORDS)})
        frame = frame.iloc[np.argsort(position, kind="stable")]
    columns = (
        Column("shown", "prediction from"),
        Column("by", "settings by"),
        Column("r2", "R²", ".2f", True),
        Column("increment", "increment in R²", "+.3f", True),
        Column("tau", "τ of prediction with gap", "+.2f", True),
        Column("mae_raw", "mean absolute error (points)", ".2f", True),
        COUNT,
        Column("members", "chosen, most often first"),
    )
    look = (
        "How well the gap of configurations never seen is predicted, step by step. If a pair or a sparse combination "
        "of measures does not raise R² over the training state, the measures together say nothing that is not in it."
    )
    return View("ladder", "The increment ladder", look, columns, frame)


def increments_view(statistics: Statistics) -> View:
    rows = statistics.table("increments")
    rows = rows[(rows["statistic"] == "increment") & (rows["step"] == "measure")]
    whole = rows[(rows["axis"] == "") & (rows["learner"] != "better")]
    frame = pivoted(whole, ["measure"], whole["over"] + "_" + whole["learner"])
    left_out = rows[(rows["axis"] != "") & (rows["over"] == "settings") & rows["estimate"].notna()]
    smaller = left_out.groupby(["measure", "axis", "value"])["estimate"].min()
    held = smaller.groupby("measure").agg(lambda values: f"{(values > 0).sum()} of {len(values)}")
    frame = frame.assign(held=frame["measure"].map(held).fillna("n/a"))
    bases = [("settings", "the settings"), ("state", "settings and state")]
    columns = (
        LABEL,
        *(
            Column(f"{over}_{learner}", f"over {base}, {learner}", "+.3f", True)
            for over, base in bases
            for learner in ("ridge", "trees")
        ),
        COUNT,
        Column("held", "left-out values gained"),
    )
    look = (
        "What one measure adds out of fold to R² of the gap, over the settings and over settings and training state; "
        "an increment holds if it is above 0 under ridge regression and boosted trees. Last column: with each value of "
        "each axis left out of training in turn, how often both learners still gain."
    )
    return View("increments", "Increment of each measure", look, columns, statistics.labelled(frame))


def left_out_view(statistics: Statistics) -> View:
    rows = statistics.table("increments")
    rows = rows[(rows["axis"] != "") & (rows["measure"] == "") & (rows["statistic"] == "r2")]
    frame = pivoted(rows, ["axis", "value"], rows["step"] + "_" + rows["learner"])
    columns = (
        Column("axis", "axis left out"),
        Column("value", "value predicted"),
        *(
            Column(f"{step}_{by}", f"{STEP_WORDS[step]}, {by}", ".2f", True)
            for step in ("settings", "state")
            for by in ("ridge", "trees")
        ),
        COUNT,
    )
    look = (
        "R² on the models of one value, predicted from all others without that axis' own columns. Below 0: worse than "
        "the mean of those models, so that what was learned does not carry over to this value."
    )
    return View("left_out", "Prediction of values never seen", look, columns, frame)


STATISTIC = Statistic(
    asks="out-of-fold prediction of the gap from settings, training state, one measure, pairs, combinations",
    place=120,
    compute=compute,
    text=("measure", "statistic", "step", "over", "learner", "axis", "value", "members"),
    views=(ladder_view, increments_view, left_out_view),
    section="prediction",
)
