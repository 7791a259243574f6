"""Steps of the increment ladder (analysis.statistics.increments): what columns add to the prediction from settings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LassoCV

from robustgap.analysis.models.study_table import Study
from robustgap.analysis.prediction.gain import DEPENDENT, Residuals, added_by, settings_residuals
from robustgap.analysis.prediction.settings_regression import FOLDS, INNER_FOLDS, Design, folds_of, settings_estimable

PENALTIES = 30  # number of values on the lasso path
Step = tuple[np.ndarray, str]  # a step's addition to each model's prediction (n,), and the measures it used


@dataclass(frozen=True)
class Steps:
    """Input of the steps. y (n,): the outcome, or its normal scores; columns (n, k): `state_count` columns of
    the training state, then the measures `names`; residuals: of both, given the settings, in every fold assignment."""

    design: Design
    y: np.ndarray
    columns: np.ndarray
    state_count: int
    names: Sequence[str]
    residuals: list[Residuals]


def make_steps(design: Design, y: np.ndarray, study: Study, state: Sequence[str], folds: Sequence[np.ndarray]) -> Steps:
    """y (n,); state: columns of the table; folds: of the cells in every fold assignment, (m,)."""
    values = study.table[[*state, *study.measures]].to_numpy(float)
    residuals = [settings_residuals(design, y, values, fold) for fold in folds]
    return Steps(design, y, values, len(state), study.measures, residuals)


def fold_products(residuals: Residuals, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Inner products of the columns `chosen` outside each fold, (folds, k, k), and with the outcome, (folds, k)."""
    columns = residuals.measures[:, :, list(chosen)]
    weighted = (residuals.weight[..., None] * columns).transpose(0, 2, 1)
    return weighted @ columns, (weighted @ residuals.outcome[..., None])[..., 0]


def joint_addition(steps: Steps, chosen: Sequence[int]) -> np.ndarray:
    """What the columns `chosen` add together to the prediction of each model (n,): mean over the fold assignments."""
    added = [
        added_by(steps.design, residuals, np.tile(np.array(chosen, dtype=int), (len(residuals.outcome), 1)))
        for residuals in steps.residuals
    ]
    return np.asarray(np.mean(added, axis=0))


def best_pair(gram: np.ndarray, with_y: np.ndarray, given: int) -> tuple[int, int]:
    """The two columns that, with the first `given` columns, leave the smallest sum of squares of the outcome; tries all
    pairs at once.

    gram (k, k): inner products of the columns; with_y (k,): with the outcome.
    """
    if given:
        share = np.linalg.pinv(gram[:given, :given], rcond=DEPENDENT, hermitian=True) @ gram[:given, given:]
        with_y = with_y[given:] - share.T @ with_y[:given]
        gram = gram[given:, given:] - gram[given:, :given] @ share
    scale = np.diag(gram)
    left, right = np.triu_indices(len(gram), 1)
    determinant = scale[left] * scale[right] - gram[left, right] ** 2
    gain = scale[right] * with_y[left] ** 2 + scale[left] * with_y[right] ** 2
    gain = gain - 2 * gram[left, right] * with_y[left] * with_y[right]
    well_conditioned = determinant > 1e-6 * scale[left] * scale[right]
    best = int(np.argmax(np.where(well_conditioned, gain / np.where(well_conditioned, determinant, 1), -np.inf)))
    return int(left[best]) + given, int(right[best]) + given


def most_frequent(counts: Counter[str], folds: int) -> str:
    """'a + b (7 of 10 folds), c + d (3 of 10 folds)', the three most frequent."""
    return ", ".join(f"{name} ({times} of {folds} folds)" for name, times in counts.most_common(3))


def pair_step(steps: Steps) -> Step:
    """The best pair of measures, chosen separately for each fold within the other folds."""
    counts, added, given = Counter[str](), [], steps.state_count
    for residuals in steps.residuals:
        gram, with_y = fold_products(residuals, range(steps.columns.shape[1]))
        pairs = [best_pair(matrix, y, given) for matrix, y in zip(gram, with_y, strict=True)]
        counts.update(" + ".join(steps.names[index - given] for index in pair) for pair in pairs)
        added.append(added_by(steps.design, residuals, np.array([[*range(given), *pair] for pair in pairs])))
    return np.mean(added, axis=0), most_frequent(counts, counts.total())


def sparse_step(steps: Steps, seed: int) -> Step:
    """Lasso on all columns, scaled to variance 1; penalty chosen by grouped cross-validation within the other folds.

    A single assignment to FOLDS folds, because leaving out each configuration would take too long. R. Tibshirani,
    Regression shrinkage and selection via the lasso, JRSS B 1996.
    """
    design, counts = steps.design, Counter[str]()
    residuals = settings_residuals(design, steps.y, steps.columns, folds_of(design.block, FOLDS, seed))
    block, added = design.block[design.cell], np.zeros(len(design.cell))
    for fold, (r, y, weight) in enumerate(zip(residuals.measures, residuals.outcome, residuals.weight, strict=True)):
        train = weight > 0
        scale = np.sqrt(np.average(r[train] ** 2, axis=0, weights=weight[train]))
        used = np.flatnonzero(scale > 0)
        if not len(used):
            continue
        inner = folds_of(block[train], INNER_FOLDS, seed)
        splits = [(np.flatnonzero(inner != part), np.flatnonzero(inner == part)) for part in np.unique(inner)]
        model = LassoCV(alphas=PENALTIES, cv=splits, fit_intercept=False, max_iter=20000, tol=1e-3)
        model.fit(r[train][:, used] / scale[used], y[train], sample_weight=weight[train])
        held_out = residuals.fold == fold
        added[held_out] = r[held_out][:, used] / scale[used] @ model.coef_
        selected = used[model.coef_ != 0] - steps.state_count
        counts.update(steps.names[index] for index in selected if index >= 0)
    return design.of_models(added), most_frequent(counts, len(residuals.outcome))


def steps_of(
    steps: Steps, folds: Sequence[np.ndarray], *, combine: bool, seed: int
) -> dict[tuple[str, str, str], Step]:
    """What each step adds: {(step, over, measure): Step}. combine: whether to include pair and sparse."""
    given, n = steps.state_count, len(steps.y)
    base = "state" if given else "settings"
    additions: dict[tuple[str, str, str], Step] = {("settings", "", ""): (np.zeros(n), "")}
    if given:
        additions["state", "settings", ""] = joint_addition(steps, range(given)), ""
    for index, measure in enumerate(steps.names, given):
        known = ~np.isnan(steps.columns[:, index])
        blank = 0 if known.all() or settings_estimable(steps.design, known, folds) else np.nan
        additions["measure", "settings", measure] = joint_addition(steps, [index]) + blank, ""
        if given:
            additions["measure", "state", measure] = joint_addition(steps, [*range(given), index]) + blank, ""
    if combine and len(steps.names) > 1:
        additions["pair", base, ""] = pair_step(steps)
        additions["sparse", base, ""] = sparse_step(steps, seed)
    return additions
