"""Numbers behind the report's sentences, taken from a ledger and its correlations."""

import math
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.findings.beside import check_sentences
from robustgap.analysis.ledger import NA, Ledger, split_flags
from robustgap.analysis.models.baselines import BASELINE, MEASURE, Beside
from robustgap.analysis.models.design import codes, configuration, configurations, in_grid
from robustgap.analysis.models.flags import ALL, left_out
from robustgap.analysis.outcome_names import GAP
from robustgap.analysis.ranks.bootstrap import LEVEL, interval_side
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.verdicts.claims import SIGN_DEPENDS

# Half of unrelated cells agree with tau by chance: with fewer than 6 independent ones, unanimity is too likely (2 *
# 0.5^5 > 5 %).
FEWEST_CELL_GROUPS = 6
STANDARD = "Standard"  # the defense without adversarial training


def record(row: pd.Series) -> dict[str, Any]:
    """Estimate, low, high, n and undefined of a row of correlations; None for undefined numbers."""
    numbers = {name: float(row[name]) for name in ("estimate", "low", "high")}
    return {name: None if math.isnan(value) else value for name, value in numbers.items()} | {"n": int(row["n"])}


def resolved(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose interval excludes 0, largest correlation first."""
    clear = rows[(rows["low"] > 0) | (rows["high"] < 0)]
    return clear.loc[clear["estimate"].abs().sort_values(ascending=False, kind="stable").index]


def sample(ledger: Ledger, table: pd.DataFrame) -> dict[str, Any]:
    """Number of models planned, analysed, lost and flagged; two identical checkpoints are one model."""
    status = ledger.distinct["status"].value_counts()
    flags = pd.Series([flag for text in table["flags"] for flag in split_flags(text)], dtype=str).value_counts()
    grid = table[in_grid(table, ledger.axes)]
    return {
        "planned": len(ledger.distinct),
        "trainings": int(ledger.runs.loc[ledger.runs["run"] != NA, "run"].nunique()),
        "models": len(table),
        "failed": int(status.get("failed", 0)),
        "collapsed": int(status.get("collapsed", 0)),
        "flags": {flag: int(count) for flag, count in flags.items()},
        "configurations": len(np.unique(configurations(grid, ledger.axes))) if configuration(ledger.axes) else 0,
        "elsewhere": len(table) - len(grid) if ledger.axes else len(table),
    }


def gap(ledger: Ledger, table: pd.DataFrame) -> dict[str, Any]:
    """The outcome: its range, and how many adversarially trained models have a gap above 2 of its standard errors (0
    of 0 for an outcome that is no gap)."""
    values = table[ledger.outcome].dropna()
    if values.empty:
        return {"n": 0}
    trained = table[~table["defense"].isin([STANDARD, NA])] if "defense" in table else table.iloc[:0]
    if ledger.explained.kind != GAP:
        trained = trained.iloc[:0]
    clear = trained[ledger.outcome] > 2 * trained.get(f"se_{ledger.outcome}", np.nan)
    numbers = {"n": len(values), "min": values.min(), "median": values.median(), "max": values.max()}
    numbers |= {"adversarially_trained": len(trained), "above_2_se": int(clear.sum())}
    return numbers | {"share_above_2_se": float(clear.mean()) if len(trained) else None}


def sign_changes(claims: pd.DataFrame) -> list[dict[str, Any]]:
    """Measures with the verdict that their sign depends on an axis, with the reason: intervals of single measures would
    suggest this far more often than the rule of verdicts allows."""
    rows = claims[claims["verdict"] == SIGN_DEPENDS]
    return [dict(row) for row in rows[["measure", "axis", "reason"]].to_dict("records")]


def cell_groups(ledger: Ledger, table: pd.DataFrame) -> dict[str, int]:
    """Number of independent groups of psi's cells for each axis: the distinct configurations ignoring that axis."""
    grid = table[in_grid(table, ledger.axes)]
    others = {axis: [other for other in configuration(ledger.axes) if other != axis] for axis in ledger.axes}
    return {axis: len(np.unique(codes(grid, settings))) for axis, settings in others.items()}


def held_fixed(correlations: pd.DataFrame, measure: str, sign: int, enough: list[str]) -> dict[str, list[str]]:
    """Axes by position of the interval of psi: same side of 0 as tau, opposite side, or unresolved (the interval
    includes 0, is missing, or the axis is not among those with `enough` blocks)."""
    rows = correlations[
        (correlations["measure"] == measure) & (correlations["statistic"] == "psi") & (correlations["given_axis"] == "")
    ]
    names = {sign: "same", -sign: "opposite", 0: "unresolved"}
    axes: dict[str, list[str]] = {"same": [], "opposite": [], "unresolved": []}
    for _, row in rows.iterrows():
        axes[names[interval_side(row["low"], row["high"]) if row["axis"] in enough else 0]].append(row["axis"])
    return axes


def changed(correlations: pd.DataFrame, other: str) -> dict[str, Any] | None:
    """Comparison of tau with a variant: the largest difference of estimates, and the measures whose interval excludes 0
    for tau but not for the variant, or on the other side. None if the variant was not computed."""
    taus = correlations.set_index("measure")
    first, second = (taus[taus["statistic"] == name] for name in ("tau", other))
    if second.empty:
        return None
    pairs = first.join(second.add_suffix("_other"))
    lost = [
        name
        for name, row in pairs.iterrows()
        if interval_side(row["low"], row["high"])
        and interval_side(row["low"], row["high"]) != interval_side(row["low_other"], row["high_other"])
    ]
    difference = (pairs["estimate"] - pairs["estimate_other"]).abs().max()
    return {"largest_difference": None if np.isnan(difference) else float(difference), "lost": lost}


def without(table: pd.DataFrame, correlations: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """How tau changes without the models of each flag, and their number; with several flags, also without all of
    them."""
    flagged = left_out(table)
    chosen = flagged if len(flagged) > 2 else {flag: rows for flag, rows in flagged.items() if flag != ALL}
    changes = {flag: (changed(correlations, f"tau_without_{flag}"), int(rows.sum())) for flag, rows in chosen.items()}
    return {flag: {**change, "models": models} for flag, (change, models) in changes.items() if change}


def noise_shares(outcome: str, noise: pd.DataFrame) -> dict[str, Any]:
    """Shares of the outcome's variance, ceilings of tau, and whether the models' shared image noise is known."""
    rows = noise[noise["measure"] == outcome]
    by_statistic = {name: group.set_index("component") for name, group in rows.groupby("statistic")}
    estimates = {
        name: {str(component): record(row) for component, row in by_statistic[name].iterrows() if row["undefined"] == 0}
        for name in ("share", "ceiling")
        if name in by_statistic
    }
    shared = bool((by_statistic["sharing"]["undefined"] == 0).all()) if "sharing" in by_statistic else False
    return {"share": {}, "ceiling": {}, **estimates, "shared_images": shared}


def of_measures(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of measures, without baselines and controls."""
    return rows[rows["kind"] == MEASURE]


def baseline_taus(correlations: pd.DataFrame, beside: Beside) -> dict[str, Any]:
    """tau of the baselines, and which baselines are unknown."""
    taus = correlations[correlations["statistic"] == "tau"].set_index("measure")
    baselines = [name for name, kind in beside.kinds.items() if kind == BASELINE]
    return {"tau": {name: record(taus.loc[name]) for name in baselines}, "absent": beside.absent}


def best_against_others(comparisons: pd.DataFrame, groups: list[list[str]]) -> dict[str, Any] | None:
    """The measure with the largest |tau| against each other measure and each baseline: difference with its family-wise
    interval, and on which side of 0 that lies; the best measure's group. None with fewer than two."""
    rows = comparisons[comparisons["undefined"] == 0]
    if rows.empty:
        return None
    best = rows["measure"].iloc[0]
    own = rows.loc[rows["measure"] == best, ["other", "kind", "difference", "family_low", "family_high", "n"]]
    result: dict[str, Any] = {
        "best": best,
        "group": next((own for own in groups if best in own), []),
        MEASURE: [],
        BASELINE: [],
    }
    for _, row in own.set_axis(["other", "kind", "estimate", "low", "high", "n"], axis=1).iterrows():
        result[row["kind"]].append(
            {"other": row["other"], "side": interval_side(row["low"], row["high"]), **record(row)}
        )
    return result


def groups_alike(claims: pd.DataFrame) -> list[list[str]]:
    """Groups of measures that order the models alike, the one that names the group first."""
    rows = claims[claims["group"] != ""]
    return [
        [str(name), *(measure for measure in group["measure"] if measure != name)]
        for name, group in rows.groupby("group", sort=False)
    ]


def find(statistics: Statistics) -> dict[str, Any]:
    """The numbers behind the report's sentences, ready for JSON (None instead of NaN)."""
    ledger, data = statistics.ledger, statistics.data
    correlations, summary, noise = (statistics.table(name) for name in ("correlations", "summary", "noise"))
    claims, comparisons = data.verdicts["claims"], data.verdicts["comparisons"]
    table, about_beside = data.beside.table, baseline_taus(correlations, data.beside)
    groups = groups_alike(claims)
    about_beside |= {
        "compared": best_against_others(comparisons, groups),
        "groups": groups,
        "check": check_sentences(claims),
    }
    of_columns, summary, claims = (of_measures(rows) for rows in (correlations, summary, claims))
    taus = of_columns[of_columns["statistic"] == "tau"]
    enough = [axis for axis, number in cell_groups(ledger, table).items() if number >= FEWEST_CELL_GROUPS]
    strongest = []
    for _, row in resolved(taus).iterrows():
        sign = interval_side(row["low"], row["high"])
        strongest.append(
            {"measure": row["measure"], **record(row), "psi": held_fixed(of_columns, row["measure"], sign, enough)}
        )
    agreed = {answer: summary.loc[summary["agrees"] == answer, "measure"].tolist() for answer in ("yes", "no")}
    cells = of_columns[(of_columns["statistic"] == "psi") & (of_columns["given_axis"] == "")]
    return {
        "study": ledger.name,
        "outcome": ledger.outcome,
        "axes": ledger.axes,
        "level": LEVEL,
        "draws": ledger.draws,
        "sample": sample(ledger, table),
        "gap": gap(ledger, table),
        "noise": noise_shares(ledger.outcome, noise),
        "measures": len(ledger.columns),
        "columns": ledger.columns,
        "claims": {"declared": int(summary["expected"].notna().sum()), **agreed},
        "strongest": strongest,
        "undefined_tau": taus.loc[taus["estimate"].isna(), "measure"].tolist(),
        "psi_cells": {"defined": int(cells["n"].sum()), "undefined": int(cells["undefined"].sum())},
        "missing": {row["measure"]: int(row["missing"]) for _, row in summary.iterrows() if row["missing"]},
        "sign_changes": sign_changes(claims),
        "without": without(table, of_columns),
        "rest": changed(of_columns, "tau_rest"),
        "beside": about_beside,
    }
