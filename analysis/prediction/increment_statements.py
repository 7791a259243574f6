"""Increments (analysis.prediction.gain) as statements: how much a measure improves the out-of-fold prediction.

increment        in R2 over the settings
increment_state  over the settings and the training state; only if state columns are named
"""

from dataclasses import replace

import numpy as np

from robustgap.analysis.models.study_table import Statement, Study
from robustgap.analysis.prediction.gain import corrections, gains, normal_scores, state_corrections, sum_error
from robustgap.analysis.prediction.settings_regression import LEARNERS, Design, cv_folds, make_design, out_of_fold

INCREMENTS = ("increment", "increment_state")


def design_of(study: Study, seed: int = 0) -> tuple[Design, list[np.ndarray]]:
    """Columns of the settings, and the fold of each of their cells in every fold assignment."""
    folds = cv_folds(len(study.levels), seed)
    held_out = max(int(np.bincount(fold).max()) for fold in folds)
    design = make_design(study.table, study.axes, study.outcome, study.block, held_out)
    return design, [fold[design.block] for fold in folds]


def increments(study: Study, seed: int = 0) -> list[Statement]:
    """The increment of each measure over the settings, with each learner, over the models that have the measure, as for
    tau: the others would dilute it, and would allow a fit of settings that the measure's own models cannot support."""
    values = study.table[study.measures].to_numpy(float)
    groups: dict[bytes, list[int]] = {}  # measures by the set of models that have them: usually all models
    for index, known in enumerate(~np.isnan(values).T):
        groups.setdefault(known.tobytes(), []).append(index)
    by_key: dict[tuple[str, str, str], Statement] = {}
    for indices in groups.values():
        rows = ~np.isnan(values[:, indices[0]])
        chosen, block = np.unique(study.block[rows], return_inverse=True)
        table, levels = study.table[rows].reset_index(drop=True), study.levels[chosen]
        names = [study.measures[index] for index in indices]
        subset = replace(study, table=table, measures=names, block=block, levels=levels, se=None)
        for statement in increments_of(subset, seed):
            parts, key = np.zeros(len(study.levels)), statement.key
            parts[chosen] = statement.parts
            by_key[key["statistic"], key["learner"], key["measure"]] = replace(statement, parts=parts)
    statistics = INCREMENTS if study.state else INCREMENTS[:1]
    return [by_key[name, learner, measure] for name in statistics for learner in LEARNERS for measure in study.measures]


def increments_of(study: Study, seed: int) -> list[Statement]:
    """Increments of measures that all models have; undefined if there are too few configurations for the main effects
    of the settings (order 0), or if outcome or measure is constant."""
    y, values = study.table[study.outcome].to_numpy(float), study.table[study.measures].to_numpy(float)
    n = len(study.levels)
    varies = np.array([len(np.unique(y)) > 1 and len(np.unique(column)) > 1 for column in values.T])
    names = INCREMENTS if study.state else INCREMENTS[:1]

    def make(name: str, learner: str, k: int, estimate: float, se: float, parts: np.ndarray, slope: float) -> Statement:
        key = {"measure": study.measures[k], "statistic": name, "learner": learner}
        return Statement(key, estimate, se, n - 1, parts, len(y), n, slope=slope)

    design, folds = design_of(study, seed) if varies.any() else (None, [])
    if design is None or design.order == 0:
        undefined = np.nan, np.nan, np.zeros(n), np.nan
        return [
            make(name, learner, k, *undefined) for name in names for learner in LEARNERS for k in range(len(varies))
        ]
    scores = normal_scores(y)
    added, slopes = corrections(design, scores, values, folds)
    # By statistic: what is added to the prediction from settings before the measure, and by the measure.
    additions = {INCREMENTS[0]: (np.zeros(len(y)), added)}
    if study.state:
        state = study.table[study.state].to_numpy(float)
        additions[INCREMENTS[1]] = state_corrections(design, scores, state, values, folds)
    predicted = out_of_fold(design, design.means(scores), folds, seed=seed)
    statements = []
    for name, (before, by_measure) in additions.items():
        for learner in LEARNERS:
            error = scores - design.of_models(predicted[learner][design.cell]) - before
            estimate, se, parts = sum_error(gains(error, by_measure, scores, study.block))
            estimate, se = (np.where(varies, numbers, np.nan) for numbers in (estimate, se))
            for k, slope in enumerate(np.sign(slopes)):
                numbers = float(estimate[k]), float(se[k]), parts[:, k], float(slope)
                statements.append(make(name, learner, k, *numbers))
    return statements
