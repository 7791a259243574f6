"""What each verdict rests on: the configuration, and the run, whose removal leaves the smallest margin.

The margin of a verdict is its distance to the nearest other verdict, in half-widths of the deciding intervals:

    sign depends   S = the largest, over axes, of min(low end of a pi, -high end of another, each over its half-width)
    replicates     R = min(tau's end nearer to 0, low ends of both increments, each over its half-width); at most -1 on
                   the side opposite to the declared sign, or with a slope against tau
    proxy          P = min(tau's end nearer to 0, NEGLIGIBLE - high ends of both increments, each over its half-width)

    margin         S of *sign depends*; min(R, -S) of *replicates*; min(P, -S) of *proxy*; -max(S, R, P) of *unresolved*

All verdicts are recomputed without each configuration, and without each run of a configuration whose removal changes a
verdict; the verdict rests on the one whose removal leaves the smallest margin. With more than EXACT configurations only
some are removed, MOST or as many as take a few minutes (FEWEST for 1,344 models with 45 measures): those for which the
error contributions (analysis.verdicts.statements) predict the smallest margins, and those with the largest share of an
estimate's errors (which may have distorted it in ways that a first-order prediction misses), in turn for each measure.
benchmarks/removals.md reports how many of the removals that change a verdict are found this way.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import NA
from robustgap.analysis.models.design import configuration
from robustgap.analysis.models.study_table import Statement, Study, make_study
from robustgap.analysis.progress import bar
from robustgap.analysis.rows import Row
from robustgap.analysis.verdicts.claims import NEGLIGIBLE, PROXY, REPLICATES, SIGN_DEPENDS, judge
from robustgap.analysis.verdicts.statements import statement_rows, statements_of

EXACT = 64  # up to this many configurations, each is removed
FEWEST, MOST = 24, 32  # number removed with more configurations
MOST_NUMBERS = FEWEST * 1344 * 45  # models times measures times removed configurations: some minutes
FURTHEST = 10.0  # margins are clipped here: an increment of exactly 0 has an interval of no width
RESULT = [
    *("measure", "margin", "rests_on", "rests_on_margin", "rests_on_verdict"),
    *("rests_on_run", "rests_on_run_margin", "rests_on_run_verdict", "turning", "left_out"),
]
TEXT = ["rests_on", "rests_on_verdict", "rests_on_run", "rests_on_run_verdict"]


def clearance(bound: float, estimate: float) -> float:
    """Distance of a bound above 0, divided by its distance from the estimate; NaN if there is none."""
    width = abs(estimate - bound)
    if np.isnan(width):
        return np.nan
    return float(np.clip(bound / max(width, abs(bound) / FURTHEST, 1e-300), -FURTHEST, FURTHEST))


def interval_clearance(row: Row) -> float:
    """Distance from 0 of the nearer interval end, divided by its half-width; negative if the interval includes 0."""
    return max(clearance(row["family_low"], row["estimate"]), clearance(-row["family_high"], -row["estimate"]))


def smallest(values: Sequence[float]) -> float:
    """The smallest value; the lowest possible margin if there are none or one is NaN."""
    return -FURTHEST if not values or np.isnan(values).any() else min(values)


def distances(rows: Sequence[Row], sign: int | None) -> dict[str, float]:
    """S, R and P of the module docstring from the statements about one measure."""
    (tau,) = [row for row in rows if row["statistic"] == "tau"]
    increments = [row for row in rows if row["statistic"] == "increment"]
    pis = [row for row in rows if row["statistic"] == "pi" and not np.isnan(row["family_low"])]
    depends = [-FURTHEST]
    for axis in dict.fromkeys(row["axis"] for row in pis):
        of_axis = [row for row in pis if row["axis"] == axis]
        above = [clearance(row["family_low"], row["estimate"]) for row in of_axis]
        below = [clearance(-row["family_high"], -row["estimate"]) for row in of_axis]
        depends += [min(above[a], below[b]) for a in range(len(of_axis)) for b in range(len(of_axis)) if a != b]
    tau_sign = int(np.sign(tau["estimate"])) if not np.isnan(tau["estimate"]) else 0
    lower = [clearance(row["family_low"], row["estimate"]) for row in increments]
    replicates = smallest([interval_clearance(tau), *lower])
    if sign not in (None, tau_sign) or any(row["slope"] != tau_sign for row in increments):
        replicates = min(replicates, -1.0)
    upper = [clearance(NEGLIGIBLE - row["family_high"], NEGLIGIBLE - row["estimate"]) for row in increments]
    return {SIGN_DEPENDS: max(depends), REPLICATES: replicates, PROXY: smallest([interval_clearance(tau), *upper])}


def margin(rows: Sequence[Row], sign: int | None, verdict: str) -> float:
    """Margin of a verdict, from the current statements about the measure; negative if they give another verdict."""
    distance_to = distances(rows, sign)
    if verdict == SIGN_DEPENDS:
        return distance_to[SIGN_DEPENDS]
    if verdict in distance_to:
        return min(distance_to[verdict], -distance_to[SIGN_DEPENDS])
    return -max(distance_to.values())


def by_measure(rows: Sequence[Row], measures: Sequence[str]) -> list[list[Row]]:
    """The rows grouped by measure."""
    groups: dict[str, list[Row]] = {measure: [] for measure in measures}
    for row in rows:
        groups[row["measure"]].append(row)
    return list(groups.values())


def settings_text(table: pd.DataFrame, axes: Sequence[str], rows: np.ndarray) -> str:
    """'defense=AT, awp=true': the settings that apply in a configuration, from one of its models."""
    first = table.iloc[int(np.flatnonzero(rows)[0])]
    return ", ".join(f"{axis}={first[axis]}" for axis in configuration(axes) if first[axis] != NA)


def predicted_margins(
    statements: Sequence[Statement],
    rows: Sequence[Row],
    configurations: int,
    signs: Mapping[str, Any],
    verdicts: Sequence[str],
) -> np.ndarray:
    """Margins of all measures without each configuration, predicted from the error contributions: (configurations, k).

    Without configuration c, an estimate becomes estimate - part_c, and its interval narrows by sqrt(1 - part_c^2 /
    sum).
    """
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    parts = np.stack([statement.parts for statement in statements])
    square = (parts**2).sum(axis=1, keepdims=True)
    narrower = np.sqrt(np.maximum(1 - parts**2 / np.where(square > 0, square, 1), 0))
    margins = np.empty((configurations, len(measures)))
    for index in range(configurations):
        shifted = []
        for row, contribution, factor in zip(rows, parts[:, index], narrower[:, index], strict=True):
            estimate = row["estimate"] - contribution
            ends = {end: estimate + factor * (row[end] - row["estimate"]) for end in ("family_low", "family_high")}
            shifted.append({**row, "estimate": estimate, **ends})
        for k, (group, verdict) in enumerate(zip(by_measure(shifted, measures), verdicts, strict=True)):
            margins[index, k] = margin(group, signs.get(measures[k]), verdict)
    return margins


def largest_shares(statements: Sequence[Statement], measures: Sequence[str]) -> np.ndarray:
    """The largest share of each configuration in the squared error contributions to any statement about a measure:
    (configurations, k)."""
    parts = np.stack([statement.parts for statement in statements]) ** 2
    total = parts.sum(axis=1, keepdims=True)
    shares = parts / np.where(total > 0, total, 1)
    of_statement = np.array([statement.key["measure"] for statement in statements])
    return np.stack([shares[of_statement == measure].max(axis=0) for measure in measures], axis=1)


def ranking(
    statements: Sequence[Statement], rows: Sequence[Row], signs: Mapping[str, Any], verdicts: Sequence[str]
) -> np.ndarray:
    """All configurations in the order of removal (module docstring)."""
    rows = [row for row in rows if row["statistic"] != "tau_expected"]
    n, measures = len(statements[0].parts), list(dict.fromkeys(row["measure"] for row in rows))
    margins = predicted_margins(statements, rows, n, signs, verdicts)
    return ranked(np.column_stack([margins, -largest_shares(statements, measures)]), n)


def ranked(margins: np.ndarray, most: int) -> np.ndarray:
    """The first `most` configurations when each measure in turn names the one with the smallest margin: (most,)."""
    order = np.argsort(margins, axis=0, kind="stable").ravel()
    return order[np.sort(np.unique(order, return_index=True)[1])][:most]


def removals(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    signs: Mapping[str, int | None] | None = None,
    se: str | None = None,
    run: str | None = None,
    seed: int = 0,
    exact: int = EXACT,
    most: int | None = None,
) -> pd.DataFrame:
    """What each verdict of `analysis.verdicts.claims.claims` rests on, one row per measure (columns: RESULT).

    run: column that identifies the runs of a configuration (a seed, or the run's id); without it, runs are not removed.
    rests_on (settings of a configuration), rests_on_run: whose removal leaves the smallest margin; *_verdict: the
    verdict after removal; turning: number of removed configurations that change the verdict; left_out: number removed;
    '' or 0 if the verdict has no numbers that could change.
    """
    signs = signs or {}
    keys: dict[str, Any] = {"axes": axes, "outcome": outcome, "measures": measures, "se": se}
    study = make_study(table, **keys)
    whole, statements = study.table, statements_of(study, seed)
    rows = statement_rows(statements, study, seed)
    groups = by_measure(rows, measures)
    verdicts = [judge(group, signs.get(name))[0] for name, group in zip(measures, groups, strict=True)]

    def without(rows: np.ndarray) -> list[tuple[float, str]]:
        """Margin of each measure's verdict, and the verdict, without the models `rows` (n,) bool."""
        remaining = whole[~rows]
        if remaining[outcome].nunique() < 2:
            return [(np.nan, "")] * len(measures)
        reduced = make_study(remaining, **keys)
        groups = by_measure(statement_rows(statements_of(reduced, seed), reduced, seed), measures)
        by_verdict = zip(groups, map(signs.get, measures), verdicts, strict=True)
        return [(margin(group, sign, verdict), judge(group, sign)[0]) for group, sign, verdict in by_verdict]

    configurations = len(study.levels)
    chosen = np.arange(configurations)
    if configurations > exact:
        most = most or int(np.clip(MOST_NUMBERS // (len(whole) * len(measures)), FEWEST, MOST))
        chosen = ranking(statements, rows, signs, verdicts)[:most]
    names = [settings_text(whole, axes, study.block == index) for index in chosen]
    removed = [without(study.block == index) for index in bar(chosen, "configurations left out")]
    by_verdict = zip(measures, groups, verdicts, strict=True)
    margins = [margin(group, signs.get(name), verdict) for name, group, verdict in by_verdict]
    result = summarised(measures, verdicts, margins, names, removed)
    if run is None or not len(chosen):
        return result
    return with_runs(result, study, chosen, names, verdicts, without, run)


def summarised(
    measures: Sequence[str], verdicts: Sequence[str], margins: Sequence[float], names: Sequence[str], removed: list[Any]
) -> pd.DataFrame:
    """One row per measure from the results without each configuration."""
    rows = []
    for k, (measure, verdict) in enumerate(zip(measures, verdicts, strict=True)):
        after = np.array([results[k][0] for results in removed])
        row = {**dict.fromkeys(TEXT, ""), "measure": measure, "margin": margins[k]}
        row |= {"turning": 0, "left_out": len(removed)}
        if len(removed) and np.isfinite(after).any() and abs(margins[k]) < FURTHEST:
            worst = int(np.nanargmin(after))
            row |= {"rests_on": names[worst], "rests_on_margin": after[worst], "rests_on_verdict": removed[worst][k][1]}
            row |= {"turning": sum(results[k][1] not in (verdict, "") for results in removed)}
        rows.append(row)
    return pd.DataFrame(rows, columns=RESULT)


def with_runs(
    result: pd.DataFrame,
    study: Study,
    chosen: np.ndarray,
    names: Sequence[str],
    verdicts: Sequence[str],
    without: Callable[..., Any],
    run: str,
) -> pd.DataFrame:
    """Add the run, within the configuration that a verdict rests on, whose removal leaves the smallest margin; only if
    removing the configuration changes the verdict."""
    position = dict(zip(names, chosen, strict=True))
    changed = (result["rests_on_verdict"] != "") & (result["rests_on_verdict"] != list(verdicts))
    for name in bar(list(dict.fromkeys(result.loc[changed, "rests_on"])), "runs left out"):
        in_configuration = study.block == position[name]
        runs = study.table[run].astype(str).to_numpy()
        by_run = [(label, without(in_configuration & (runs == label))) for label in np.unique(runs[in_configuration])]
        for k in np.flatnonzero((changed & (result["rests_on"] == name)).to_numpy()):
            label, results = min(by_run, key=lambda entry: entry[1][k][0])
            result.loc[k, ["rests_on_run", "rests_on_run_verdict"]] = label, results[k][1]
            result.loc[k, "rests_on_run_margin"] = results[k][0]
    return result


def with_removals(verdict: pd.DataFrame, removed: pd.DataFrame | None) -> pd.DataFrame:
    """Verdicts (`analysis.verdicts.judged.judged`) with what they rest on; empty if that was not computed (None), and
    for baselines and controls."""
    rows = pd.DataFrame(columns=RESULT) if removed is None else removed
    rows = verdict[["measure"]].merge(rows, on="measure", how="left").fillna(dict.fromkeys(TEXT, ""))
    added = {name: rows[name].to_numpy() for name in RESULT[1:]}
    return verdict.assign(**added).astype({"turning": "Int64", "left_out": "Int64"})
