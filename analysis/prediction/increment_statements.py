"""Increments (analysis.prediction.gain) as statements: how much a measure improves the out-of-fold prediction.

increment        in R2 over the settings
increment_state  over the settings and the training state; only if state columns are named
"""

from dataclasses import replace

import numpy as np

from robustgap.analysis.models.study_table import Statement, Study
from robustgap.analysis.prediction.gain import corrections, gains, normal_scores, state_corrections, sum_error
from robustgap.analysis.prediction.settings_regression import LEARNERS, Design, deals_of, make_design, out_of_fold

INCREMENTS = ("increment", "increment_state")


def design_of(study: Study, seed: int = 0) -> tuple[Design, list[np.ndarray]]:
    """Columns of the settings, and the fold of each of their cells in every fold assignment."""
    dealt = deals_of(len(study.levels), seed)
    most = max(int(np.bincount(fold).max()) for fold in dealt)
    design = make_design(study.table, study.axes, study.outcome, study.block, most)
    return design, [fold[design.block] for fold in dealt]


def increments(study: Study, seed: int = 0) -> list[Statement]:
    """The increment of each measure over the settings, with each learner, over the models that have the measure, as for
    tau: the others would dilute it, and would allow a fit of settings that the measure's own models cannot support."""
    values, many = study.table[study.measures].to_numpy(float), len(study.levels)
    groups: dict[bytes, list[int]] = {}  # measures by the set of models that have them: usually all models
    for place, known in enumerate(~np.isnan(values).T):
        groups.setdefault(known.tobytes(), []).append(place)
    found: dict[tuple[str, str, str], Statement] = {}
    for places in groups.values():
        rows = ~np.isnan(values[:, places[0]])
        chosen, block = np.unique(study.block[rows], return_inverse=True)
        names = [study.measures[place] for place in places]
        part = replace(
            study,
            table=study.table[rows].reset_index(drop=True),
            measures=names,
            block=block,
            levels=study.levels[chosen],
            se=None,
        )
        for one in increments_of(part, seed):
            parts = np.zeros(many)
            parts[chosen] = one.parts
            found[one.key["statistic"], one.key["learner"], one.key["measure"]] = replace(one, parts=parts)
    statistics = INCREMENTS if study.state else INCREMENTS[:1]
    return [found[name, learner, measure] for name in statistics for learner in LEARNERS for measure in study.measures]


def increments_of(study: Study, seed: int) -> list[Statement]:
    """Increments of measures that all models have; undefined if there are too few configurations for the main effects
    of the settings (order 0), or if outcome or measure is constant."""
    y, values = study.table[study.outcome].to_numpy(float), study.table[study.measures].to_numpy(float)
    many = len(study.levels)
    varies = np.array([len(np.unique(y)) > 1 and len(np.unique(column)) > 1 for column in values.T])

    names = INCREMENTS if study.state else INCREMENTS[:1]

    def made(name: str, learner: str, k: int, estimate: float, se: float, parts: np.ndarray, slope: float) -> Statement:
        key = {"measure": study.measures[k], "statistic": name, "learner": learner}
        return Statement(key, estimate, se, many - 1, parts, len(y), many, slope=slope)

    design, folds = design_of(study, seed) if varies.any() else (None, [])
    if design is None or design.order == 0:
        none = np.nan, np.nan, np.zeros(many), np.nan
        return [made(name, learner, k, *none) for name in names for learner in LEARNERS for k in range(len(varies))]
    scores = normal_scores(y)
    added, slopes = corrections(design, scores, values, folds)
    before = {INCREMENTS[0]: (np.zeros(len(y)), added)}  # the prediction without the measure, and what the measure adds
    if study.state:
        state = study.table[study.state].to_numpy(float)
        before[INCREMENTS[1]] = state_corrections(design, scores, state, values, folds)
    predicted = out_of_fold(design, design.means(scores), folds, seed=seed)
    found = []
    for name, (base, more) in before.items():
        for learner in LEARNERS:
            error = scores - design.of_models(predicted[learner][design.cell]) - base
            estimate, se, parts = sum_error(gains(error, more, scores, study.block))
            estimate, se = (np.where(varies, numbers, np.nan) for numbers in (estimate, se))
            for k, slope in enumerate(np.sign(slopes)):
                found.append(made(name, learner, k, float(estimate[k]), float(se[k]), parts[:, k], float(slope)))
    return found
