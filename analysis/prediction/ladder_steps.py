"""Steps of the increment ladder (analysis.statistics.increments): what columns add to the prediction from settings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LassoCV

from robustgap.analysis.models.study_table import Study
from robustgap.analysis.prediction.gain import DEPENDENT, Beyond, added_by, beyond_settings
from robustgap.analysis.prediction.settings_regression import FOLDS, INNER_FOLDS, Design, bearable, folds_of

PENALTIES = 30  # number of values on the lasso path
Step = tuple[np.ndarray, str]  # a step's addition to each model's prediction (n,), and the measures it used


@dataclass(frozen=True)
class Steps:
    """Input of the steps. y (n,): the outcome, or its normal scores; columns (n, k): `given` columns of the training
    state, then the measures `names`; beyond: residuals of both after the settings, in every fold assignment."""

    design: Design
    y: np.ndarray
    columns: np.ndarray
    given: int
    names: Sequence[str]
    beyond: list[Beyond]


def make_steps(design: Design, y: np.ndarray, study: Study, state: Sequence[str], folds: Sequence[np.ndarray]) -> Steps:
    """y (n,); state: columns of the table; folds: of the cells in every fold assignment, (m,)."""
    values = study.table[[*state, *study.measures]].to_numpy(float)
    beyond = [beyond_settings(design, y, values, fold) for fold in folds]
    return Steps(design, y, values, len(state), study.measures, beyond)


def products(beyond: Beyond, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Inner products of the columns `chosen` outside each fold, (folds, k, k), and with the outcome, (folds, k)."""
    columns = beyond.measures[:, :, list(chosen)]
    weighted = (beyond.weight[..., None] * columns).transpose(0, 2, 1)
    return weighted @ columns, (weighted @ beyond.outcome[..., None])[..., 0]


def step(steps: Steps, chosen: Sequence[int]) -> np.ndarray:
    """What the columns `chosen` jointly add to the prediction of each model (n,): the mean over the fold
    assignments."""
    made = [
        added_by(steps.design, beyond, np.tile(np.array(chosen, dtype=int), (len(beyond.outcome), 1)))
        for beyond in steps.beyond
    ]
    return np.asarray(np.mean(made, axis=0))


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
    gained = scale[right] * with_y[left] ** 2 + scale[left] * with_y[right] ** 2
    gained = gained - 2 * gram[left, right] * with_y[left] * with_y[right]
    sound = determinant > 1e-6 * scale[left] * scale[right]
    best = int(np.argmax(np.where(sound, gained / np.where(sound, determinant, 1), -np.inf)))
    return int(left[best]) + given, int(right[best]) + given


def members(counted: Counter[str], folds: int) -> str:
    """'a + b (7 of 10 folds), c + d (3 of 10 folds)', the three most frequent."""
    return ", ".join(f"{name} ({times} of {folds} folds)" for name, times in counted.most_common(3))


def pair_step(steps: Steps) -> Step:
    """The best pair of measures, chosen separately for each fold within the other folds."""
    counted, made, given = Counter[str](), [], steps.given
    for beyond in steps.beyond:
        gram, with_y = products(beyond, range(steps.columns.shape[1]))
        pairs = [best_pair(one, y, given) for one, y in zip(gram, with_y, strict=True)]
        counted.update(" + ".join(steps.names[place - given] for place in pair) for pair in pairs)
        made.append(added_by(steps.design, beyond, np.array([[*range(given), *pair] for pair in pairs])))
    return np.mean(made, axis=0), members(counted, counted.total())


def sparse_step(steps: Steps, seed: int) -> Step:
    """Lasso on all columns, scaled to variance 1; penalty chosen by grouped cross-validation within the other folds.

    A single assignment to FOLDS folds, because leaving out each configuration takes too long. R. Tibshirani, Regression
    shrinkage and selection via the lasso, JRSS B 1996.
    """
    design, counted = steps.design, Counter[str]()
    beyond = beyond_settings(design, steps.y, steps.columns, folds_of(design.block, FOLDS, seed))
    block, added = design.block[design.cell], np.zeros(len(design.cell))
    for part, (r, y, weight) in enumerate(zip(beyond.measures, beyond.outcome, beyond.weight, strict=True)):
        train = weight > 0
        scale = np.sqrt(np.average(r[train] ** 2, axis=0, weights=weight[train]))
        used = np.flatnonzero(scale > 0)
        if not len(used):
            continue
        inner = folds_of(block[train], INNER_FOLDS, seed)
        splits = [(np.flatnonzero(inner != one), np.flatnonzero(inner == one)) for one in np.unique(inner)]
        model = LassoCV(alphas=PENALTIES, cv=splits, fit_intercept=False, max_iter=20000, tol=1e-3)
        model.fit(r[train][:, used] / scale[used], y[train], sample_weight=weight[train])
        out = beyond.fold == part
        added[out] = r[out][:, used] / scale[used] @ model.coef_
        counted.update(steps.names[place - steps.given] for place in used[model.coef_ != 0] if place >= steps.given)
    return design.of_models(added), members(counted, len(beyond.outcome))


def steps_of(
    steps: Steps, folds: Sequence[np.ndarray], *, combine: bool, seed: int
) -> dict[tuple[str, str, str], Step]:
    """What each step adds: {(step, over, measure): Step}. combine: whether to include pair and sparse."""
    given, n = steps.given, len(steps.y)
    base = "state" if given else "settings"
    found: dict[tuple[str, str, str], Step] = {("settings", "", ""): (np.zeros(n), "")}
    if given:
        found["state", "settings", ""] = step(steps, range(given)), ""
    for place, measure in enumerate(steps.names, given):
        known = ~np.isnan(steps.columns[:, place])
        blank = 0 if known.all() or bearable(steps.design, known, folds) else np.nan
        found["measure", "settings", measure] = step(steps, [place]) + blank, ""
        if given:
            found["measure", "state", measure] = step(steps, [*range(given), place]) + blank, ""
    if combine and len(steps.names) > 1:
        found["pair", base, ""] = pair_step(steps)
        found["sparse", base, ""] = sparse_step(steps, seed)
    return found
