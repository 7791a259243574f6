"""The increment ladder: how well the outcome is predicted out of fold, step by step.

    settings     (a) the training settings
    state        (b) and the training state: columns such as robust training accuracy and training loss
    measure      (c) and one measure more, a row for each
    pair         (d) or the best pair of measures, chosen among all pairs within the other folds
    sparse       (d) or a sparse combination of all measures: lasso, its penalty chosen within the other folds

Each step adds to the prediction from settings what the settings do not say of its columns (analysis.prediction), fitted
together by least squares. Settings are predicted by ridge regression, by boosted trees, and by the `better` of the two
in cross-validation within the other folds. Statistics: r2, mae (in the outcome's unit), tau (of prediction with
outcome), and increment (of r2) over the step named in `over`. Rows with `axis` and `value`: the models with that value
of the axis are predicted by all others, without that axis' own columns; r2 is about their own mean there.

A model without a measure is predicted without it, and n of a step with one measure counts the models that have it; the
step is undefined where so few configurations have the measure that their settings alone could reproduce it.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import LassoCV

from analysis.inference import LEVEL
from analysis.influence import tau_influence
from analysis.ledger import CHECKPOINT
from analysis.prediction import Beyond, beyond_settings, sum_error
from analysis.progress import bar
from analysis.settings_models import FOLDS, INNER_FOLDS, Design, bearable, folds_of, make_design, out_of_fold
from analysis.statements import Study, in_cells

RESULT = [
    *("measure", "statistic", "step", "over", "learner", "axis", "value"),
    *("estimate", "low", "high", "n", "undefined", "members"),
]
PENALTIES = 30  # on the path of the lasso
Step = tuple[np.ndarray, str]  # what a step adds to each model's prediction (n,), and which measures it took


def cluster_interval(estimate: float, parts: np.ndarray) -> tuple[float, float, float]:
    """95 % interval of a statistic from the parts that configurations contribute to its error (blocks,), which sum to
    0: estimate -+ t sqrt(n / (n - 1) sum parts^2), Student's t with n - 1 degrees of freedom."""
    n = len(parts)
    if n < 3 or np.isnan(estimate):
        return estimate, np.nan, np.nan
    half = float(stats.t.isf((1 - LEVEL) / 2, n - 1) * np.sqrt(n / (n - 1) * (parts**2).sum()))
    return estimate, estimate - half, estimate + half


def ratio(top: np.ndarray, bottom: np.ndarray) -> tuple[float, np.ndarray]:
    """sum(top) / sum(bottom) over blocks and the parts of its error: (top - ratio bottom) / sum(bottom)."""
    total = float(bottom.sum())
    found = float(top.sum() / total) if total else np.nan
    return found, (top - found * bottom) / total if total else top


def quality(y: np.ndarray, predicted: np.ndarray, block: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """r2, mae and tau of predictions with intervals."""
    error = np.bincount(block, (y - predicted) ** 2)
    unexplained, parts = ratio(error, np.bincount(block, (y - y.mean()) ** 2))
    tau, influence = tau_influence(predicted, y, block)
    return {
        "r2": cluster_interval(1 - unexplained, parts),
        "mae": cluster_interval(*ratio(np.bincount(block, np.abs(y - predicted)), np.bincount(block).astype(float))),
        "tau": cluster_interval(tau, influence),
    }


def step(beyond: Beyond, chosen: Sequence[int]) -> np.ndarray:
    """What the columns `chosen` together add to the prediction of each model (n,): least squares in the other folds."""
    added = np.zeros(len(beyond.fold))
    for part, (r, y) in enumerate(zip(beyond.measures[:, :, list(chosen)], beyond.outcome, strict=True)):
        train = beyond.fold != part
        added[~train] = r[~train] @ np.linalg.lstsq(r[train], y[train], rcond=1e-9)[0]
    return added


def best_pair(r: np.ndarray, y: np.ndarray, given: int) -> tuple[int, int]:
    """The two columns of r (n, k), beside the first `given`, that leave y (n,) the least sum of squares.

    All pairs at once, from the inner products of the columns freed of the given ones.
    """
    held, free = r[:, :given], r[:, given:]
    if given:
        free = free - held @ np.linalg.lstsq(held, free, rcond=1e-9)[0]
    gram, with_y = free.T @ free, free.T @ y
    scale = np.diag(gram)
    left, right = np.triu_indices(free.shape[1], 1)
    determinant = scale[left] * scale[right] - gram[left, right] ** 2
    gained = scale[right] * with_y[left] ** 2 + scale[left] * with_y[right] ** 2
    gained = gained - 2 * gram[left, right] * with_y[left] * with_y[right]
    sound = determinant > 1e-6 * scale[left] * scale[right]
    best = int(np.argmax(np.where(sound, gained / np.where(sound, determinant, 1), -np.inf)))
    return int(left[best]) + given, int(right[best]) + given


def members(counted: Counter, folds: int) -> str:
    """'a + b (7 of 10 folds), c + d (3 of 10 folds)', the three most frequent."""
    return ", ".join(f"{name} ({times} of {folds} folds)" for name, times in counted.most_common(3))


def pair_step(beyond: Beyond, names: Sequence[str], given: int) -> Step:
    """The best pair of measures, chosen anew within the other folds of each fold."""
    added, counted = np.zeros(len(beyond.fold)), Counter[str]()
    for part, (r, y) in enumerate(zip(beyond.measures, beyond.outcome, strict=True)):
        train = beyond.fold != part
        pair = best_pair(r[train], y[train], given)
        columns = [*range(given), *pair]
        added[~train] = r[~train][:, columns] @ np.linalg.lstsq(r[train][:, columns], y[train], rcond=1e-9)[0]
        counted[" + ".join(names[place - given] for place in pair)] += 1
    return added, members(counted, len(beyond.measures))


def sparse_step(beyond: Beyond, block: np.ndarray, names: Sequence[str], given: int, seed: int) -> Step:
    """Lasso on all columns, scaled to variance 1; the penalty by grouped cross-validation within the other folds.

    R. Tibshirani, Regression shrinkage and selection via the lasso, JRSS B 1996.
    """
    added, counted = np.zeros(len(beyond.fold)), Counter[str]()
    for part, (r, y) in enumerate(zip(beyond.measures, beyond.outcome, strict=True)):
        train = beyond.fold != part
        scale = r[train].std(axis=0)
        used = np.flatnonzero(scale > 0)
        if not len(used):
            continue
        inner = folds_of(block[train], INNER_FOLDS, seed)
        splits = [(np.flatnonzero(inner != one), np.flatnonzero(inner == one)) for one in np.unique(inner)]
        model = LassoCV(alphas=PENALTIES, cv=splits, fit_intercept=False, max_iter=5000, tol=1e-3)
        model.fit(r[train][:, used] / scale[used], y[train])
        added[~train] = r[~train][:, used] / scale[used] @ model.coef_
        counted.update(names[place - given] for place in used[model.coef_ != 0] if place >= given)
    return added, members(counted, len(beyond.measures))


def steps_of(
    study: Study, design: Design, fold: np.ndarray, state: Sequence[str], *, combine: bool, seed: int
) -> dict[tuple[str, str, str], Step]:
    """What each step adds: {(step, over, measure): Step}. combine: whether pair and sparse are asked for."""
    y, many = study.table[study.outcome].to_numpy(float), len(state)
    values = study.table[[*state, *study.measures]].to_numpy(float)
    beyond = beyond_settings(design, y, values, fold)
    base = "state" if many else "settings"
    found: dict[tuple[str, str, str], Step] = {("settings", "", ""): (np.zeros(len(y)), "")}
    if many:
        found["state", "settings", ""] = step(beyond, range(many)), ""
    for place, measure in enumerate(study.measures):
        known = ~np.isnan(values[:, many + place])
        blank = 0 if known.all() or bearable(design, known, fold) else np.nan
        found["measure", "settings", measure] = step(beyond, [many + place]) + blank, ""
        if many:
            found["measure", "state", measure] = step(beyond, [*range(many), many + place]) + blank, ""
    if combine and len(study.measures) > 1:
        found["pair", base, ""] = pair_step(beyond, study.measures, many)
        found["sparse", base, ""] = sparse_step(beyond, study.block, study.measures, many, seed)
    return found


def rows_of(study: Study, steps: dict, predicted: dict, where: dict) -> list[dict]:
    """Tidy rows of all steps under each learner, over the models of `where` (axis, value; all where empty)."""
    rows, y = [], study.table[study.outcome].to_numpy(float)
    inside = study.table[where["axis"]].to_numpy(str) == where["value"] if where else np.full(len(y), True)
    block = np.unique(study.block[inside], return_inverse=True)[1]
    models = study.table[inside]  # an index that occurs twice is one model
    many = {measure: models.index[models[measure].notna()].nunique() for measure in study.measures}
    for learner, base in predicted.items():
        for (name, over, measure), (added, chosen) in steps.items():
            key = {"measure": measure, "step": name, "over": over, "learner": learner, "members": chosen, **where}
            found = quality(y[inside], (base + added)[inside], block)
            if over:
                before = base + (steps["state", "settings", ""][0] if over == "state" else 0)
                squares = (y - before)[inside] ** 2 - (y - base - added)[inside] ** 2
                total = ((y[inside] - y[inside].mean()) ** 2).sum() or np.nan  # one model, or equal outcomes
                estimate, _, parts = sum_error(np.bincount(block, squares)[:, None] / total)
                found["increment"] = cluster_interval(float(estimate[0]), parts[:, 0])
            for statistic, (estimate_, low, high) in found.items():
                n = many.get(measure, models.index.nunique())
                numbers = {"estimate": estimate_, "low": low, "high": high, "n": n}
                rows.append({**key, "statistic": statistic, **numbers, "undefined": int(np.isnan(estimate_))})
    return rows


def ladder(study: Study, *, state: Sequence[str] = (), seed: int = 0) -> pd.DataFrame:
    """The ladder in folds of configurations, then with each value of each axis left out (columns: RESULT).

    study: `analysis.statements.make_study`. state: columns of the training state in its table. The checkpoint rule is
    not left out: its values share their runs. Empty where the configurations are too few for any settings.
    """
    rows: list[dict] = []
    study = in_cells(study)
    y = study.table[study.outcome].to_numpy(float)
    fold = folds_of(study.block, FOLDS, seed)
    first = np.unique(study.block, return_index=True)[1]
    design = make_design(study.table[study.axes], study.block, int(np.bincount(fold[first]).max()))
    if design.order:
        steps = steps_of(study, design, fold, state, combine=True, seed=seed)
        rows += rows_of(study, steps, out_of_fold(design, y, fold, choose=True, seed=seed), {})
    for axis in bar([axis for axis in study.axes if axis != CHECKPOINT], "axis values left out"):
        rows += left_out(study, axis, state, seed)
    return pd.DataFrame(rows, columns=RESULT).fillna({"axis": "", "value": ""})


def left_out(study: Study, axis: str, state: Sequence[str], seed: int) -> list[dict]:
    """Rows with each value of the axis left out in turn."""
    y, place = study.table[study.outcome].to_numpy(float), study.table[axis].to_numpy(str)
    values, fold = np.unique(place, return_inverse=True)
    first = np.unique(study.block, return_index=True)[1]
    others = [other for other in study.axes if other != axis]
    if not others:
        return []  # no settings are left to predict from
    design = make_design(study.table[others], study.block, int(np.bincount(fold[first]).max()))
    if not design.order:
        return []
    steps = steps_of(study, design, fold, state, combine=False, seed=seed)
    predicted = out_of_fold(design, y, fold)
    return list(
        itertools.chain.from_iterable(
            rows_of(study, steps, predicted, {"axis": axis, "value": str(value)}) for value in values
        )
    )
