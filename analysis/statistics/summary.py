"""Summary tables of a ledger: all correlations, one row per measure, and models with issues."""

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import VARIANTS, Ledger, split_flags
from robustgap.analysis.models.baselines import MEASURE, Beside, with_kinds
from robustgap.analysis.models.flags import ALL, LEFT_OUT, left_out, reason
from robustgap.analysis.ranks.bootstrap import Bootstrap
from robustgap.analysis.statistics.correlations import RESULT, correlations, tau
from robustgap.analysis.statistics.reliability import costs

INTERVAL = ["estimate", "low", "high"]
GRAVEST = ("failed", "collapsed", "no outcome")  # listed first
SUMMARY = ["measure", "kind", "family", "tau", "low", "high", "n", "missing", "reasons", "expected", "agrees"]
VARIANT_ENDS = {"tau_rest": ["", "_low", "_high"]}
VARIANT_ENDS |= {f"tau_without_{flag}": ["", "_low", "_high", "_n"] for flag in (*LEFT_OUT, ALL)}
SUMMARY += [f"{name}{end}" for name, ends in VARIANT_ENDS.items() for end in ends]
ISSUE = ["model", "run", "checkpoint", "seed", "issue", "reason", "settings"]


def ledger_correlations(ledger: Ledger, beside: Beside) -> pd.DataFrame:
    """tau, tau_a, psi and pi of the study's outcome with every measure, baseline and control (column `kind`), and
    variants of tau:

        tau_rest             with the gap computed on training images not given to any measure
        tau_without_FLAG     without the models that have a flag of analysis.models.flags.LEFT_OUT
        tau_without_flagged  without models that have any of these

    beside: of `analysis.models.flags.model_table`. Variants that cannot be computed (no such images, no such models)
    have no rows.
    """
    axes, outcome, table = ledger.axes, ledger.outcome, beside.table
    measures = [*ledger.columns, *beside.kinds]
    found = correlations(
        table, axes=axes, outcome=outcome, measures=measures, seed_column="seed", draws=ledger.draws, seed=0
    )
    bootstrap = Bootstrap(ledger.draws)
    more: list[dict] = []
    rest = f"{outcome}_rest"
    if rest in table and table[rest].notna().any():
        more += tau(table[table[rest].notna()], axes, rest, measures, bootstrap, names=["tau_rest"])
    for flag, rows in left_out(table).items():
        kept = table[~rows & table[outcome].notna()]
        more += tau(kept, axes, outcome, measures, bootstrap, names=[f"tau_without_{flag}"])
    found = pd.concat([found, pd.DataFrame(more, columns=RESULT)], ignore_index=True) if more else found
    return with_kinds(found, beside.kinds)


def reasons(measures: pd.DataFrame, models: pd.Series) -> dict[str, str]:
    """{measure column: '12 x reason; 3 x other reason'} for the missing values of the given models."""
    lost = measures[measures["value"].isna() & measures["model"].isin(models)]
    column = lost["measure"] + lost["variant"].map(VARIANTS)
    counts = lost.groupby([column, lost["reason"]]).size()
    return {
        name: "; ".join(f"{n} x {why}" for (_, why), n in part.sort_values(ascending=False).items())
        for name, part in counts.groupby(level=0)
    }


def agreement(expected: int | None, low: float, high: float) -> str:
    """Whether an interval of tau supports a claimed sign: 'yes', 'no', 'unresolved' (it includes 0), '' (no claim)."""
    if expected is None:
        return ""
    if np.isnan(low) or low <= 0 <= high:
        return "unresolved"
    return "yes" if expected * low > 0 else "no"


def summary_table(ledger: Ledger, beside: Beside, found: pd.DataFrame) -> pd.DataFrame:
    """One row per measure column, then one per baseline and control: tau with interval and n, missing values with
    reasons, declared sign and whether the interval supports it, tau on the rest of the training images and without
    flagged models (and n), seconds."""
    table = beside.table
    why = reasons(ledger.measures, table["model"])
    cost = costs(ledger)
    taus = {name: part.set_index("measure") for name, part in found.groupby("statistic") if name.startswith("tau")}
    rows = []
    for column in [*ledger.columns, *beside.kinds]:
        main, kind = taus["tau"].loc[column], beside.kinds.get(column, MEASURE)
        row = {"measure": column, "kind": kind, "family": ledger.entry(column)["family"] if kind == MEASURE else ""}
        row |= {"tau": main["estimate"], "low": main["low"], "high": main["high"], "n": main["n"]}
        row |= {"missing": int(table[column].isna().sum()), "reasons": why.get(column, "")}
        expected = ledger.expects(column) if kind == MEASURE else None
        row |= {"expected": expected, "agrees": agreement(expected, main["low"], main["high"])}
        for name, ends in VARIANT_ENDS.items():
            values = taus[name].loc[column, [*INTERVAL, "n"]] if name in taus else [np.nan] * 4
            row |= dict(zip([f"{name}{end}" for end in ends], values, strict=False))
        rows.append({**row, "seconds_per_model": cost["seconds"].get(column, np.nan)})
    return pd.DataFrame(rows, columns=[*SUMMARY, "seconds_per_model"]).astype({"expected": "Int64"})


def issue_table(ledger: Ledger, table: pd.DataFrame) -> pd.DataFrame:
    """One row for every model that failed, collapsed, lacks the outcome, or is flagged, with the reason."""
    every = pd.concat([ledger.runs, ledger.distinct]).to_dict("records")  # the latter tells of models that are both
    settings = {row["model"]: ", ".join(f"{axis}={row[axis]}" for axis in ledger.axes) for row in every}
    seen = {row["model"]: row["reason"] for row in every}
    rows = ledger.runs.loc[ledger.runs["status"] != "finished"].to_dict("records")
    issues = [{**row, "issue": row["status"]} for row in rows]
    for row in table.to_dict("records"):
        if np.isnan(row[ledger.outcome]):
            issues.append({**row, "issue": "no outcome", "reason": f"{ledger.outcome} is not known"})
        row["reason"] = seen[row["model"]]
        flags = split_flags(row["flags"])
        issues += [{**row, "issue": flag, "reason": reason(row, flag, ledger.outcome)} for flag in flags]
    frame = pd.DataFrame(issues, columns=ISSUE)
    frame["settings"] = frame["model"].map(settings)
    grave = frame["issue"].map({issue: place for place, issue in enumerate(GRAVEST)}).fillna(len(GRAVEST))
    return frame.assign(grave=grave).sort_values(["grave", "issue", "model"], ignore_index=True).drop(columns="grave")
