"""What each verdict rests on: the configuration, and the run, whose removal changes its margin most.

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


def beyond(bound: float, estimate: float) -> float:
    """Distance of a bound above 0, divided by its distance from the estimate; NaN if there is none."""
    width = abs(estimate - bound)
    if np.isnan(width):
        return np.nan
    return float(np.clip(bound / max(width, abs(bound) / FURTHEST, 1e-300), -FURTHEST, FURTHEST))


def outside(row: Mapping[str, Any]) -> float:
    """Distance from 0 of the nearer interval end, divided by its half-width; negative if the interval includes 0."""
    return max(beyond(row["family_low"], row["estimate"]), beyond(-row["family_high"], -row["estimate"]))


def least(values: Sequence[float]) -> float:
    """The smallest of the values; the lowest possible margin if one is unknown."""
    return -FURTHEST if not values or np.isnan(values).any() else min(values)


def distances(rows: Sequence[Mapping[str, Any]], sign: int | None) -> dict[str, float]:
    """S, R and P of the module docstring from the statements about one measure."""
    (tau,) = [row for row in rows if row["statistic"] == "tau"]
    grown = [row for row in rows if row["statistic"] == "increment"]
    pis = [row for row in rows if row["statistic"] == "pi" and not np.isnan(row["family_low"])]
    depends = [-FURTHEST]
    for axis in dict.fromkeys(row["axis"] for row in pis):
        own = [row for row in pis if row["axis"] == axis]
        above = [beyond(row["family_low"], row["estimate"]) for row in own]
        below = [beyond(-row["family_high"], -row["estimate"]) for row in own]
        depends += [min(above[a], below[b]) for a in range(len(own)) for b in range(len(own)) if a != b]
    side = int(np.sign(tau["estimate"])) if not np.isnan(tau["estimate"]) else 0
    replicates = least([outside(tau), *(beyond(row["family_low"], row["estimate"]) for row in grown)])
    if sign not in (None, side) or any(row["slope"] != side for row in grown):
        replicates = min(replicates, -1.0)
    upper = [beyond(NEGLIGIBLE - row["family_high"], NEGLIGIBLE - row["estimate"]) for row in grown]
    return {SIGN_DEPENDS: max(depends), REPLICATES: replicates, PROXY: least([outside(tau), *upper])}


def margin(rows: Sequence[Mapping[str, Any]], sign: int | None, verdict: str) -> float:
    """Margin of a verdict, from the current statements about the measure; negative if they give another verdict."""
    found = distances(rows, sign)
    if verdict == SIGN_DEPENDS:
        return found[SIGN_DEPENDS]
    if verdict in found:
        return min(found[verdict], -found[SIGN_DEPENDS])
    return -max(found.values())


def by_measure(rows: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> list[list[Mapping[str, Any]]]:
    """The rows grouped by measure."""
    found: dict[str, list[Mapping[str, Any]]] = {measure: [] for measure in measures}
    for row in rows:
        found[row["measure"]].append(row)
    return list(found.values())


def described(table: pd.DataFrame, axes: Sequence[str], rows: np.ndarray) -> str:
    """'defense=AT, awp=true': the settings that apply in a configuration, from one of its models."""
    first = table.iloc[int(np.flatnonzero(rows)[0])]
    return ", ".join(f"{axis}={first[axis]}" for axis in configuration(axes) if first[axis] != NA)


def predicted_margins(
    made: Sequence[Statement],
    rows: Sequence[Mapping[str, Any]],
    configurations: int,
    signs: Mapping[str, Any],
    verdicts: Sequence[str],
) -> np.ndarray:
    """Margins of all measures without each configuration, predicted from the error contributions: (configurations, k).

    Without configuration c, an estimate becomes estimate - part_c, and its interval narrows by sqrt(1 - part_c^2 /
    sum).
    """
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    parts = np.stack([one.parts for one in made])
    square = (parts**2).sum(axis=1, keepdims=True)
    narrower = np.sqrt(np.maximum(1 - parts**2 / np.where(square > 0, square, 1), 0))
    found = np.empty((configurations, len(measures)))
    for place in range(configurations):
        moved = []
        for row, part, width in zip(rows, parts[:, place], narrower[:, place], strict=True):
            estimate = row["estimate"] - part
            ends = {end: estimate + width * (row[end] - row["estimate"]) for end in ("family_low", "family_high")}
            moved.append({**row, "estimate": estimate, **ends})
        for k, (own, verdict) in enumerate(zip(by_measure(moved, measures), verdicts, strict=True)):
            found[place, k] = margin(own, signs.get(measures[k]), verdict)
    return found


def largest_shares(made: Sequence[Statement], measures: Sequence[str]) -> np.ndarray:
    """The largest share of each configuration in the squared error contributions to any statement about a measure:
    (configurations, k)."""
    parts = np.stack([one.parts for one in made]) ** 2
    total = parts.sum(axis=1, keepdims=True)
    shares = parts / np.where(total > 0, total, 1)
    about = np.array([one.key["measure"] for one in made])
    return np.stack([shares[about == measure].max(axis=0) for measure in measures], axis=1)


def ranking(
    made: Sequence[Statement], rows: Sequence[Mapping[str, Any]], signs: Mapping[str, Any], verdicts: Sequence[str]
) -> np.ndarray:
    """All configurations in the order of removal (module docstring)."""
    made = [one for one in made if one.key["statistic"] != "tau_expected"]
    rows = [row for row in rows if row["statistic"] != "tau_expected"]
    many, measures = len(made[0].parts), list(dict.fromkeys(row["measure"] for row in rows))
    margins = predicted_margins(made, rows, many, signs, verdicts)
    return ranked(np.column_stack([margins, -largest_shares(made, measures)]), many)


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
    asked: dict[str, Any] = {"axes": axes, "outcome": outcome, "measures": measures, "se": se}
    study = make_study(table, **asked)
    whole, made = study.table, statements_of(study, seed)
    rows = statement_rows(made, study, seed)
    verdicts = [judge(own, signs.get(name))[0] for name, own in zip(measures, by_measure(rows, measures), strict=True)]

    def without(rows: np.ndarray) -> list[tuple[float, str]]:
        """Margin of each measure's verdict, and the verdict, without some models."""
        rest = whole[~rows]
        if rest[outcome].nunique() < 2:
            return [(np.nan, "")] * len(measures)
        part = make_study(rest, **asked)
        found = by_measure(statement_rows(statements_of(part, seed), part, seed), measures)
        return [
            (margin(own, signs.get(name), verdict), judge(own, signs.get(name))[0])
            for name, own, verdict in zip(measures, found, verdicts, strict=True)
        ]

    many = len(study.levels)
    chosen = np.arange(many)
    if many > exact:
        most = most or int(np.clip(MOST_NUMBERS // (len(whole) * len(measures)), FEWEST, MOST))
        chosen = ranking(made, rows, signs, verdicts)[:most]
    names = [described(whole, axes, study.block == place) for place in chosen]
    left = [without(study.block == place) for place in bar(chosen, "configurations left out")]
    own = [
        margin(part, signs.get(name), verdict)
        for name, part, verdict in zip(measures, by_measure(rows, measures), verdicts, strict=True)
    ]
    found = summarised(measures, verdicts, own, names, left)
    if run is None or not len(chosen):
        return found
    return with_runs(found, study, chosen, names, verdicts, without, run)


def summarised(
    measures: Sequence[str], verdicts: Sequence[str], own: Sequence[float], names: Sequence[str], left: list[Any]
) -> pd.DataFrame:
    """One row per measure from the results without each configuration."""
    rows = []
    for k, (measure, verdict) in enumerate(zip(measures, verdicts, strict=True)):
        margins = np.array([part[k][0] for part in left])
        row = {**dict.fromkeys(TEXT, ""), "measure": measure, "margin": own[k], "turning": 0, "left_out": len(left)}
        if len(left) and np.isfinite(margins).any() and abs(own[k]) < FURTHEST:
            worst = int(np.nanargmin(margins))
            row |= {"rests_on": names[worst], "rests_on_margin": margins[worst], "rests_on_verdict": left[worst][k][1]}
            row |= {"turning": sum(part[k][1] not in (verdict, "") for part in left)}
        rows.append(row)
    return pd.DataFrame(rows, columns=RESULT)


def with_runs(
    found: pd.DataFrame,
    study: Study,
    chosen: np.ndarray,
    names: Sequence[str],
    verdicts: Sequence[str],
    without: Callable[..., Any],
    run: str,
) -> pd.DataFrame:
    """Add the run, within the configuration that a verdict rests on, whose removal leaves the smallest margin; only if
    removing the configuration changes the verdict."""
    place = dict(zip(names, chosen, strict=True))
    turned = (found["rests_on_verdict"] != "") & (found["rests_on_verdict"] != list(verdicts))
    for name in bar(list(dict.fromkeys(found.loc[turned, "rests_on"])), "runs left out"):
        inside = study.block == place[name]
        runs = study.table[run].astype(str).to_numpy()
        made = [(label, without(inside & (runs == label))) for label in np.unique(runs[inside])]
        for k in np.flatnonzero((turned & (found["rests_on"] == name)).to_numpy()):
            label, part = min(made, key=lambda one: one[1][k][0])
            found.loc[k, ["rests_on_run", "rests_on_run_verdict"]] = label, part[k][1]
            found.loc[k, "rests_on_run_margin"] = part[k][0]
    return found


def with_removals(verdict: pd.DataFrame, found: pd.DataFrame | None) -> pd.DataFrame:
    """Verdicts (`analysis.verdicts.judged.judged`) with what they rest on; empty if that was not computed (None), and
    for baselines and controls."""
    rows = pd.DataFrame(columns=RESULT) if found is None else found
    rows = verdict[["measure"]].merge(rows, on="measure", how="left").fillna(dict.fromkeys(TEXT, ""))
    added = {name: rows[name].to_numpy() for name in RESULT[1:]}
    return verdict.assign(**added).astype({"turning": "Int64", "left_out": "Int64"})
