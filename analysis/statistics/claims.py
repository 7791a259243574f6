"""Claims: one verdict per measure, baseline and control (analysis.verdicts), and what it rests on."""

import numpy as np
import pandas as pd

from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.verdicts.removals import removals, with_removals
from robustgap.analysis.verdicts.unflagged import with_unflagged
from robustgap.analysis.view import COUNT, LABEL, SIGN_TEXT, Column, View


def compute(data: StudyData) -> pd.DataFrame:
    """The verdicts, with the configuration and run that each rests on if asked for, and those without flagged models if
    they are of a ledger."""
    verdicts, removed = data.verdicts["claims"], None
    if data.removals and data.decidable:
        removed = removals(data.models, **data.of_measures, signs=data.signs, run=data.run_column)
    if data.removals or data.ledger is not None:
        verdicts = with_removals(verdicts, removed)
    if data.ledger is not None:
        verdicts = with_unflagged(verdicts, data.unflagged.verdicts["claims"] if data.unflagged else None)
    return verdicts


def verdict_text(verdict: pd.Series, axis: pd.Series) -> np.ndarray:
    """Verdicts as shown: 'replicates', 'sign depends on defense'."""
    return np.asarray(np.where(axis != "", "sign depends on " + axis.astype(str), verdict))


def resting(row: dict[str, str]) -> str:
    """'defense=AT, awp=true', or '≠ proxy of the settings without run 1a2b (defense=AT, awp=true)' if leaving that out
    changes the verdict (the run alone, or the whole configuration)."""
    if not row["rests_on"] or row["rests_on_verdict"] == row["verdict"]:
        return row["rests_on"]
    if row["rests_on_run_verdict"] not in ("", row["verdict"]):
        return f"≠ {row['rests_on_run_verdict']} without run {row['rests_on_run']} ({row['rests_on']})"
    return f"≠ {row['rests_on_verdict']} without {row['rests_on']}"


def verdicts_view(statistics: Statistics) -> View:
    frame = statistics.labelled(statistics.table("claims"))
    shown = verdict_text(frame["verdict"], frame["axis"]) if len(frame) else np.array([])
    signs = frame["sign"].map(SIGN_TEXT).fillna("no claim") if len(frame) else []
    alike = frame["group"].map(lambda name: statistics.label(name) if name else "") if len(frame) else []
    without: tuple[Column, ...] = ()
    if len(frame) and (frame["verdict_without_flagged"] != "").any():
        other = verdict_text(frame["verdict_without_flagged"], frame["axis_without_flagged"])
        frame = frame.assign(without=np.where(other == shown, "the same", "≠ " + other.astype(object)))
        without = Column("without", "without flagged"), Column("n_without_flagged", "n without", ".0f")
    rests: tuple[Column, ...] = ()
    if len(frame) and frame["left_out"].notna().any():
        frame = frame.assign(rests=[resting(row) for row in frame.to_dict("records")])
        rests = (Column("rests", "rests on"),)
    columns = (
        LABEL,
        Column("shown", "verdict"),
        Column("tau", "τ", "+.2f", True, True),
        Column("declared", "declared sign"),
        Column("increment_ridge", "increment in R², ridge", "+.3f", True, True),
        Column("increment_trees", "increment in R², trees", "+.3f", True, True),
        COUNT,
        Column("alike", "orders models alike with"),
        *rests,
        *without,
    )
    look = (
        "One verdict per measure, by a fixed rule: the first of sign depends, replicates, proxy of the settings that "
        "holds, else unresolved. Unresolved says that these data cannot tell, not that the measure is useless. "
        "Baselines need no measure; the controls are the check of this study: a random number, and a fit of the "
        "settings. Measures that order the models alike (|τ| of each two at least 0.9) are named after the strongest."
    )
    if rests:
        look += (
            " Rests on: everything is judged again without each configuration; named is the one without which the "
            "verdict comes nearest to another, marked ≠ where it becomes another, and the run that suffices for that."
        )
    if without:
        look += " Last columns: the verdict without flagged models, marked ≠ where it differs, and their n."
    return View("verdicts", "Verdicts", look, columns, frame.assign(shown=shown, declared=signs, alike=alike))


STATISTIC = Statistic(
    asks="the verdict on each measure, baseline and control, why, and the configuration and run"
    " that it rests on; measures that order models alike",
    place=10,
    compute=compute,
    text=(
        *("measure", "kind", "verdict", "group", "axis", "reason", "rests_on", "rests_on_verdict"),
        *("rests_on_run", "rests_on_run_verdict", "verdict_without_flagged", "axis_without_flagged"),
    ),
    views=(verdicts_view,),
    section="verdicts",
)
