"""Summary: one row per measure, baseline and control, with tau, the claimed sign, missing values and seconds."""

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import VARIANTS
from robustgap.analysis.models.baselines import MEASURE
from robustgap.analysis.models.flags import ALL, LEFT_OUT, flag_words
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.statistics.reliability import costs
from robustgap.analysis.view import COUNT, LABEL, SIGN_TEXT, Column, View

INTERVAL = ["estimate", "low", "high"]
RESULT = ["measure", "kind", "family", "tau", "low", "high", "n", "missing", "reasons", "expected", "agrees"]
TAU_VARIANTS = {"tau_rest": ["", "_low", "_high"]}
TAU_VARIANTS |= {f"tau_without_{flag}": ["", "_low", "_high", "_n"] for flag in (*LEFT_OUT, ALL)}
RESULT += [f"{name}{end}" for name, ends in TAU_VARIANTS.items() for end in ends]
TAU_VARIANT_WORDS = {  # variants of tau: heading, meaning
    "tau_rest": ("disjoint images", "with the gap computed on the training images that no measure was given"),
    **{
        f"tau_without_{flag}": (f"without {flag.replace('_', ' ')}", f"without the models {flag_words(flag)}")
        for flag in (*LEFT_OUT, ALL)
    },
}
AGREEMENT = {"yes": ", borne out", "no": ", contradicted", "unresolved": ", unresolved", "": ""}


def missing_reasons(measures: pd.DataFrame, models: pd.Series) -> dict[str, str]:
    """{measure column: '12 x reason; 3 x other reason'} for the missing values of the given models."""
    missing = measures[measures["value"].isna() & measures["model"].isin(models)]
    column = missing["measure"] + missing["variant"].map(VARIANTS)
    counts = missing.groupby([column, missing["reason"]]).size()
    return {
        name: "; ".join(f"{n} x {reason}" for (_, reason), n in group.sort_values(ascending=False).items())
        for name, group in counts.groupby(level=0)
    }


def sign_support(expected: int | None, low: float, high: float) -> str:
    """Whether an interval of tau supports a claimed sign: 'yes', 'no', 'unresolved' (it includes 0), '' (no claim)."""
    if expected is None:
        return ""
    if np.isnan(low) or low <= 0 <= high:
        return "unresolved"
    return "yes" if expected * low > 0 else "no"


def compute(data: StudyData, correlations: pd.DataFrame) -> pd.DataFrame:
    """One row per measure column, then one per baseline and control: tau with interval and n, missing values with
    reasons, declared sign and whether the interval supports it, tau on the rest of the training images and without
    flagged models (and n), seconds."""
    ledger, beside = data.ledger, data.beside
    assert ledger is not None, "needs the ledger"
    reasons = missing_reasons(ledger.measures, beside.table["model"])
    mean_costs = costs(ledger)
    taus = {
        name: part.set_index("measure") for name, part in correlations.groupby("statistic") if name.startswith("tau")
    }
    rows = []
    for column in data.of_columns["measures"]:
        tau, kind = taus["tau"].loc[column], beside.kinds.get(column, MEASURE)
        row = {"measure": column, "kind": kind, "family": ledger.entry(column)["family"] if kind == MEASURE else ""}
        row |= {"tau": tau["estimate"], "low": tau["low"], "high": tau["high"], "n": tau["n"]}
        row |= {"missing": int(beside.table[column].isna().sum()), "reasons": reasons.get(column, "")}
        expected = data.signs.get(column) if kind == MEASURE else None
        row |= {"expected": expected, "agrees": sign_support(expected, tau["low"], tau["high"])}
        for name, ends in TAU_VARIANTS.items():
            values = taus[name].loc[column, [*INTERVAL, "n"]] if name in taus else [np.nan] * 4
            row |= dict(zip([f"{name}{end}" for end in ends], values, strict=False))
        rows.append({**row, "seconds_per_model": mean_costs["seconds"].get(column, np.nan)})
    return pd.DataFrame(rows, columns=[*RESULT, "seconds_per_model"]).astype({"expected": "Int64"})


def tau_view(statistics: Statistics) -> View:
    frame = statistics.labelled(statistics.table("summary")).rename(columns={"low": "tau_low", "high": "tau_high"})
    declared = frame["expected"].map(SIGN_TEXT).fillna("no claim") + frame["agrees"].map(AGREEMENT)
    known = {name: heading for name, (heading, _) in TAU_VARIANT_WORDS.items() if frame[name].notna().any()}
    shown = [Column(name, f"τ, {heading}", "+.2f", True) for name, heading in known.items()]
    counts = [Column(f"{name}_n", f"n, {heading}", ".0f") for name, heading in known.items() if f"{name}_n" in frame]
    columns = (
        LABEL,
        Column("tau", "τ, all models", "+.2f", True),
        COUNT,
        Column("missing", "missing", ".0f"),
        Column("declared", "expected sign"),
        *shown,
        *counts,
        Column("seconds_per_model", "seconds per model", ".2g"),
    )
    look = (
        "A measure that ranks models as their gaps do has τ near ±1, one that knows nothing has τ near 0; no measure "
        "can be expected to pass the noise ceilings."
    )
    for name, (heading, meaning) in TAU_VARIANT_WORDS.items():
        look += f" {heading.capitalize()}: {meaning}." if name in known else ""
    if "tau_rest" not in known:
        look += " Disjoint images: every training image was given to the measures, so there is no such column."
    if absent := [flag.replace("_", " ") for flag in LEFT_OUT if f"tau_without_{flag}" not in known]:
        look += f" No model, or every model, is flagged {', '.join(absent)}, so there is no such column."
    return View("tau", "τ of each measure with the gap", look, columns, frame.assign(declared=declared))


STATISTIC = Statistic(
    asks="one row per measure: τ, what its paper claims, missing values with reasons, seconds",
    place=30,
    compute=compute,
    text=("measure", "kind", "family", "reasons", "agrees"),
    needs=("ledger",),
    after=("correlations",),
    views=(tau_view,),
    section="strength",
)
