"""Tau of each measure with every outcome of a ledger: gaps, robust accuracies and losses under each attack.

    tau      tau-b over all models that have both; low, high: single interval of the configuration bootstrap, with the
             draws of `correlations`. family_low, family_high: simultaneous 95 % intervals for all measures with this
             outcome (max-T, as in verdicts), over the models of the grid; none where no two of them differ
    ceiling  measure: '' ; the noise ceilings of tau with this outcome (analysis.statistics._ceilings), without
             intervals: `run_ceiling`, `configuration_ceiling`. The standard error is that of image sampling, with the
             noise that the models share taken into account for the images of this outcome; a loss has no standard
             error, so its run-level ceiling is undefined

H. Kim et al. (Fantastic robustness measures, NeurIPS 2023) asked about robust accuracy as well as about the gap.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from robustgap.analysis.models.design import configurations, in_grid, known_models, paired
from robustgap.analysis.models.shared_images import shared_image_noise
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.outcome_names import OutcomeColumn
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.bootstrap import Bootstrap, interval, interval_side, weighted_tau
from robustgap.analysis.rows import Row, tidy_row
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.statistics._outcomes import asked
from robustgap.analysis.statistics.noise import noise
from robustgap.analysis.verdicts.statements import Bases, family_rows, taus
from robustgap.analysis.view import COUNT, Column, View
from robustgap.analysis.words import explained_words

KEY = ["measure", "outcome", "outcome_id", "outcome_kind", "statistic"]
FAMILY = ["family_low", "family_high"]
RESULT = [*KEY, "estimate", "low", "high", *FAMILY, "n", "undefined"]
AGREEMENT = ["agreement", "agreement_low", "agreement_high"]
CEILINGS = {"run": "run_ceiling", "configuration": "configuration_ceiling"}


def outcome_taus(
    table: pd.DataFrame, axes: Sequence[str], outcome: str, measures: Sequence[str], bootstrap: Bootstrap
) -> list[Row]:
    """Tau of each measure with one outcome, single and family-wise."""
    table = known_models(table, outcome, axes)
    block = configurations(table, axes)
    weights = bootstrap.weights(np.zeros(block.max(initial=-1) + 1), "tau")
    family: dict[str, list[float]] = {}
    if len(axes) and len(set(table.loc[in_grid(table, axes), outcome])) > 1:
        study = make_study(table, axes=axes, outcome=outcome, measures=measures)
        rows = family_rows(taus(study, Bases(study.levels))) if measures else []
        family = {row["measure"]: [row[end] for end in FAMILY] for row in rows}
    result = []
    for measure in measures:
        x, y, known = paired(table, outcome, measure)
        draws = weighted_tau(x[known], y[known], block[known], weights)[0]
        numbers = interval(draws, len(np.unique(block[known])))
        row = tidy_row(numbers, int(known.sum()), measure=measure, statistic="tau")
        result.append({**row, **dict(zip(FAMILY, family.get(measure, [np.nan, np.nan]), strict=True))})
    return result


def ceiling_rows(data: StudyData, column: OutcomeColumn) -> list[Row]:
    """The noise ceilings of tau with one outcome, without intervals."""
    assert data.ledger is not None, "needs the ledger"
    error = f"se_{column.column}" if f"se_{column.column}" in data.models else None
    found = noise(
        data.models,
        axes=data.axes,
        outcome=column.column,
        seed_column=data.seed_column,
        se=error,
        shared=shared_image_noise(data.ledger, data.models, column.column),
        draws=0,
    )
    rows = found[found["statistic"] == "ceiling"].to_dict("records")
    return [
        tidy_row((row["estimate"], np.nan, np.nan), row["n"], measure="", statistic=CEILINGS[row["component"]])
        for row in rows
    ]


def compute(data: StudyData) -> pd.DataFrame:
    """Tau of every measure with every outcome, and the ceilings."""
    bootstrap, rows = Bootstrap(data.draws), list[Row]()
    for name, column in bar(list(asked(data).items()), "tau by outcome"):
        measures = [measure for measure in data.measures if measure != name]
        own = {"outcome": name, "outcome_id": column.outcome, "outcome_kind": column.kind}
        of_one = [*outcome_taus(data.models, data.axes, name, measures, bootstrap), *ceiling_rows(data, column)]
        rows += [{**row, **own} for row in of_one]
    return pd.DataFrame(rows, columns=RESULT)


def clear(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose family-wise interval excludes 0, largest |tau| first."""
    sides = [interval_side(low, high) for low, high in rows[FAMILY].itertuples(index=False)]
    kept = rows[np.array(sides, dtype=int) != 0]
    return kept.loc[kept["estimate"].abs().sort_values(ascending=False, kind="stable").index]


def outcomes_view(statistics: Statistics) -> View:
    rows, agreement = statistics.table("outcomes_tau"), statistics.table("outcomes_agreement")
    own, models = statistics.data.outcome, statistics.data.models
    beside = {own: [1.0, np.nan, np.nan]}
    for name, other in (("outcome", "other"), ("other", "outcome")):
        with_own = agreement[agreement[name] == own]
        beside |= dict(zip(with_own[other], with_own[["estimate", "low", "high"]].to_numpy().tolist(), strict=True))
    frame = []
    for outcome, part in rows.groupby("outcome", sort=False):
        taus, known = part[part["statistic"] == "tau"], int(models[outcome].notna().sum())
        clear_ones, ceilings = clear(taus), part.set_index("statistic")["estimate"]
        row = {"label": explained_words(statistics.ledger.explain(str(outcome))), "n": known}
        row |= {"lacking": len(models) - known, "clear": len(clear_ones), "measures": len(taus)}
        row |= {name: ceilings.get(name, np.nan) for name in CEILINGS.values()}
        row |= dict(zip(AGREEMENT, beside.get(str(outcome), [np.nan] * 3), strict=True))
        best = clear_ones.iloc[0] if len(clear_ones) else None
        row["strongest"] = "none" if best is None else statistics.label(best["measure"])
        frame.append({**row, "tau": np.nan if best is None else best["estimate"]})
    columns = (
        Column("label", "outcome"),
        COUNT,
        Column("lacking", "models without", ".0f"),
        Column("agreement", "τ with the study's outcome", "+.2f", True),
        Column("run_ceiling", "run-level ceiling", ".2f"),
        Column("configuration_ceiling", "configuration-level ceiling", ".2f"),
        Column("clear", "measures clear of 0", ".0f"),
        Column("measures", "of", ".0f"),
        Column("strongest", "strongest of these"),
        Column("tau", "its τ", "+.2f"),
    )
    look = (
        "Every outcome of the study as what measures are asked to predict. Clear of 0: measures whose family-wise "
        "interval of τ, over all measures with this outcome, excludes 0. An outcome that agrees little with the "
        "study's own asks another question."
    )
    return View("outcomes", "What is asked: gaps, robust accuracies and losses", look, columns, pd.DataFrame(frame))


STATISTIC = Statistic(
    asks="τ of each measure with every outcome: gaps, robust accuracies and losses under each attack, and the ceilings",
    place=151,
    compute=compute,
    text=KEY,
    columns=RESULT,
    needs=("ledger",),
    views=(outcomes_view,),
    section="outcomes",
)
