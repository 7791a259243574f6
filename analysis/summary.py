"""Tables of a ledger that sum up the single statistics: all correlations, a summary per measure, what went wrong."""

import numpy as np
import pandas as pd

from analysis.association import RESULT, correlations, tau
from analysis.inference import Bootstrap
from analysis.ledger import ROBUST_FLOOR, VARIANTS, Ledger, split_flags
from analysis.reliability import costs

INTERVAL = ["estimate", "low", "high"]
FLAG_REASONS = {
    "best_is_last": "the best checkpoint is the last epoch: both models are the same",
    "catastrophic_overfitting": "in training, PGD accuracy on the validation images fell to less than half while FGSM"
    " accuracy stayed (log.csv says when; the best checkpoint may be from before); kept",
    "gradient_masking": "gradients mislead the attack, or outputs are probabilities, so robust accuracy may be too high"
    " (the outcomes of its chunk say what was seen); kept",
    ROBUST_FLOOR: "robust accuracy is at or below chance; kept, and tau is also given without such models",
}
GRAVEST = ("failed", "collapsed", "no outcome")  # listed first
SUMMARY = ["measure", "family", "tau", "low", "high", "n", "missing", "reasons", "expected", "agrees"]
SUMMARY += [f"{name}{end}" for name in ("tau_rest", "tau_no_floor") for end in ("", "_low", "_high")]
ISSUE = ["model", "run", "checkpoint", "seed", "issue", "reason", "settings"]


def has_flag(flags: pd.Series, flag: str) -> np.ndarray:
    """Which rows carry a flag."""
    return np.array([flag in split_flags(text) for text in flags], dtype=bool)


def ledger_correlations(ledger: Ledger, table: pd.DataFrame) -> pd.DataFrame:
    """tau, tau_a, psi and pi of the study's outcome against every measure, and two variants of tau:

        tau_rest      with the gap computed on the training images that no measure was given
        tau_no_floor  without the models whose robust accuracy is at or below chance

    table: `ledger.models()`. Rows of a variant that cannot be computed (no such images, no such models) are left out.
    """
    axes, outcome, measures = ledger.axes, ledger.outcome, ledger.columns
    found = correlations(
        table, axes=axes, outcome=outcome, measures=measures, seed_column="seed", draws=ledger.draws, seed=0
    )
    bootstrap = Bootstrap(ledger.draws)
    more: list[dict] = []
    rest = f"{outcome}_rest"
    if rest in table and table[rest].notna().any():
        more += tau(table[table[rest].notna()], axes, rest, measures, bootstrap, names=["tau_rest"])
    floor = has_flag(table["flags"], ROBUST_FLOOR)
    if floor.any() and not floor.all():
        above = table[~floor & table[outcome].notna()]
        more += tau(above, axes, outcome, measures, bootstrap, names=["tau_no_floor"])
    return pd.concat([found, pd.DataFrame(more, columns=RESULT)]) if more else found


def reasons(measures: pd.DataFrame, models: pd.Series) -> dict[str, str]:
    """{measure column: '12 x reason; 3 x other reason'} of the missing values of the given models."""
    lost = measures[measures["value"].isna() & measures["model"].isin(models)]
    column = lost["measure"] + lost["variant"].map(VARIANTS)
    counts = lost.groupby([column, lost["reason"]]).size()
    return {
        name: "; ".join(f"{n} x {why}" for (_, why), n in part.sort_values(ascending=False).items())
        for name, part in counts.groupby(level=0)
    }


def agreement(expected: int | None, low: float, high: float) -> str:
    """Whether an interval of tau bears out a claimed sign: 'yes', 'no', 'unresolved' (it has 0), '' (no claim)."""
    if expected is None:
        return ""
    if np.isnan(low) or low <= 0 <= high:
        return "unresolved"
    return "yes" if expected * low > 0 else "no"


def summary_table(ledger: Ledger, table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """One row per measure column: tau with interval and n, missing values with reasons, declared sign and whether the
    interval bears it out, tau on the rest of the training images and without models at the robust floor, seconds."""
    why = reasons(ledger.measures, table["model"])
    cost = costs(ledger)
    taus = {name: part.set_index("measure") for name, part in found.groupby("statistic") if name.startswith("tau")}
    rows = []
    for column in ledger.columns:
        main = taus["tau"].loc[column]
        row = {"measure": column, "family": ledger.entry(column)["family"]}
        row |= {"tau": main["estimate"], "low": main["low"], "high": main["high"], "n": main["n"]}
        row |= {"missing": int(table[column].isna().sum()), "reasons": why.get(column, "")}
        expected = ledger.expects(column)
        row |= {"expected": expected, "agrees": agreement(expected, main["low"], main["high"])}
        for name in ("tau_rest", "tau_no_floor"):
            values = taus[name].loc[column, INTERVAL] if name in taus else [np.nan] * 3
            row |= dict(zip([name, f"{name}_low", f"{name}_high"], values, strict=True))
        rows.append({**row, "seconds_per_model": cost["seconds"].get(column, np.nan)})
    return pd.DataFrame(rows, columns=[*SUMMARY, "seconds_per_model"]).astype({"expected": "Int64"})


def issue_table(ledger: Ledger, table: pd.DataFrame) -> pd.DataFrame:
    """One row for every model that failed, collapsed, lacks the outcome, or is flagged, with the reason."""
    settings = {
        row["model"]: ", ".join(f"{axis}={row[axis]}" for axis in ledger.axes) for row in ledger.runs.to_dict("records")
    }
    rows = ledger.runs.loc[ledger.runs["status"] != "finished"].to_dict("records")
    issues = [{**row, "issue": row["status"]} for row in rows]
    for row in table.to_dict("records"):
        if np.isnan(row[ledger.outcome]):
            issues.append({**row, "issue": "no outcome", "reason": f"{ledger.outcome} is not known"})
        flags = split_flags(row["flags"])
        issues += [{**row, "issue": flag, "reason": FLAG_REASONS.get(flag, "flagged")} for flag in flags]
    frame = pd.DataFrame(issues, columns=ISSUE)
    frame["settings"] = frame["model"].map(settings)
    grave = frame["issue"].map({issue: place for place, issue in enumerate(GRAVEST)}).fillna(len(GRAVEST))
    return frame.assign(grave=grave).sort_values(["grave", "issue", "model"], ignore_index=True).drop(columns="grave")
