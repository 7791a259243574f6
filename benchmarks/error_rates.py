"""How often the rule of verdicts is wrong, and how often it finds what is there, on ledgers with known answers.

    python -m benchmarks.error_rates [--ledgers 200] [--processes 2] [--out benchmarks/error_rates.md]

For each kind of measure (benchmarks.known_answers) and each design (24 and 64 configurations) that many ledgers are
judged by `analysis.verdicts.claims.claims`, with the declared sign +1. Counted are the verdicts, how often the 95 %
interval of `tau_expected` covers the generator's own value (and that of `tau`, which is about gaps as measured), and
how far the noise ceilings of `analysis.statistics.noise` are from the truth. Families: ledgers with ten measures judged
together. The first ledgers of each kind are also judged with exp(1.5 gap) as the outcome, which leaves every rank and
so every verdict as it is, and with one gap times 100 (benchmarks.changed_ledgers).
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.changed_ledgers import EXP, TIMES_100, exponential, outlier
from benchmarks.known_answers import AXES, DESIGNS, FAMILY, KINDS, make, make_family, true_ceilings, true_tau
from robustgap.analysis.statistics.noise import noise
from robustgap.analysis.verdicts.claims import PROXY, REPLICATES, SIGN_DEPENDS, UNRESOLVED, claims

RIGHT = {"genuine": REPLICATES, "sign_flip": SIGN_DEPENDS, "axis_proxy": PROXY, "interaction_proxy": PROXY}
WANTED = {"axis_proxy": 0.8, "interaction_proxy": 0.8, "genuine": 0.9, "sign_flip": 0.9}  # at 64 configurations
MOST_WRONG, COVERED, CEILING = 0.05, (0.92, 0.98), 0.03
COPIES = 200  # ledgers drawn anew for the generator's own tau
CHANGED = {EXP: 40, TIMES_100: 40}  # ledgers of each kind and design that are judged so
GRAVE = (REPLICATES, SIGN_DEPENDS)
VERDICTS = (SIGN_DEPENDS, REPLICATES, PROXY, UNRESOLVED)


def judged(table: pd.DataFrame, measures: list[str], *, axes: list[str] = AXES, seed: int = 0) -> pd.DataFrame:
    """Verdicts about the measures of a known ledger, by name."""
    signs = dict.fromkeys(measures, 1)
    found, _ = claims(table, axes=axes, outcome="gap", measures=measures, signs=signs, se="se_gap", seed=seed)
    return found.set_index("measure")


def one(kind: str, configurations: int, number: int, copies: int = COPIES) -> dict:
    """Verdict on one ledger, and whether its interval covers the generator's own tau."""
    world, ledger = make(kind, configurations, number)
    found = judged(ledger.table, ["m"]).loc["m"]
    true = true_tau(world, kind, np.random.default_rng([number, configurations]), copies)
    return {
        "kind": kind,
        "configurations": configurations,
        "number": number,
        "verdict": found["verdict"],
        "axis": found["axis"],
        "covered": found["tau_expected_low"] <= true <= found["tau_expected_high"],
        "plain": found["tau_low"] <= true <= found["tau_high"],
        "significant": found["tau_low"] > 0 or found["tau_high"] < 0,
        **{name: found[name] for name in ("increment_ridge", "increment_trees")},
    }


def changed(change: str, kind: str, configurations: int, number: int) -> dict:
    """Verdict on one ledger with a changed outcome."""
    table = make(kind, configurations, number)[1].table
    found = judged(exponential(table) if change == EXP else outlier(table, number), ["m"]).loc["m"]
    row = {"outcome": change, "kind": kind, "configurations": configurations, "number": number}
    return {**row, "verdict": found["verdict"], "axis": found["axis"]}


def ceiling(configurations: int, number: int) -> dict:
    """Errors of both estimated noise ceilings of one ledger."""
    _, ledger = make("null", configurations, number)
    found = noise(ledger.table, axes=AXES, outcome="gap", seed_column="seed", se="se_gap", draws=0)
    found = found[found["statistic"] == "ceiling"].set_index("component")["estimate"]
    run, configuration = true_ceilings(ledger, np.random.default_rng(number))
    return {
        "configurations": configurations,
        "run": found["run"] - run,
        "configuration": found["configuration"] - configuration,
    }


def wrong(kind: str, verdict: str, axis: str) -> str:
    """Which verdict is wrong: 'replicates' or 'sign depends', the two grave errors, 'proxy of the settings', or ''."""
    if verdict == REPLICATES and kind != "genuine":
        return REPLICATES
    if verdict == SIGN_DEPENDS and (kind != "sign_flip" or axis != "defense"):
        return SIGN_DEPENDS
    if verdict == PROXY and not kind.startswith("noisy") and RIGHT.get(kind) != PROXY:
        return PROXY
    return ""


def family(configurations: int, number: int) -> dict:
    """Which errors are made among ten measures judged together, and which of the four known answers are found."""
    found = judged(make_family(configurations, number).table, list(FAMILY))
    errors = {wrong(FAMILY[name], row["verdict"], row["axis"]) for name, row in found.iterrows()}
    right = {f"{kind} found": found.loc[kind, "verdict"] == verdict for kind, verdict in RIGHT.items()}
    return {"configurations": configurations, **{f"wrong {name}": name in errors for name in (*GRAVE, PROXY)}, **right}


def run(work: partial) -> dict:
    """One piece of work, in whichever process."""
    return work()


def gathered(works: list[partial], processes: int) -> Iterator[dict]:
    """Results of the work, in order, from this process or from several."""
    if processes == 1:
        yield from map(run, works)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(run, works, chunksize=5)


def counted(part: pd.DataFrame, kind: str) -> dict:
    """How often each verdict was given to ledgers of a kind, and how often each was wrong."""
    found = part["verdict"].value_counts()
    errors = [wrong(kind, verdict, axis) for verdict, axis in zip(part["verdict"], part["axis"], strict=True)]
    row = {verdict: int(found.get(verdict, 0)) for verdict in VERDICTS}
    return row | {f"wrong {name}": errors.count(name) for name in (*GRAVE, PROXY)}


def verdict_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Per kind and design: verdicts, errors and coverage."""
    table = []
    for (configurations, kind), part in rows.groupby(["configurations", "kind"], sort=False):
        row = {"configurations": configurations, "kind": kind, **counted(part, kind)}
        row |= {"covered": part["covered"].mean(), "covered, uncorrected": part["plain"].mean()}
        table.append({**row, "increment ridge": part["increment_ridge"].mean(), "n": len(part)})
    return pd.DataFrame(table)


def changed_table(rows: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Per changed outcome, kind and design: verdicts, errors, and how many verdicts are not those `before`."""
    key, table = ["configurations", "kind", "number"], []
    both = rows.merge(before[[*key, "verdict", "axis"]], on=key, suffixes=("", "_before"), validate="many_to_one")
    both["other"] = (both["verdict"] != both["verdict_before"]) | (both["axis"] != both["axis_before"])
    for (outcome, configurations, kind), part in both.groupby(["outcome", *key[:2]], sort=False):
        row = {"outcome": outcome, "configurations": configurations, "kind": kind, **counted(part, kind)}
        table.append({**row, "changed": int(part["other"].sum()), "n": len(part)})
    return pd.DataFrame(table)


def targets(table: pd.DataFrame, ceilings: pd.DataFrame) -> list[tuple[str, bool]]:
    """Every target in words, and whether it is met."""
    told = []
    for row in table.to_dict("records"):
        where, n = f"{row['configurations']} configurations, {row['kind']}", row["n"]
        for name in GRAVE:
            count = row[f"wrong {name}"]
            told.append((f"{where}: wrong *{name}* {count} of {n}, at most {MOST_WRONG:.0%}", count <= MOST_WRONG * n))
        if row["configurations"] != 64:
            continue
        if row["kind"] in WANTED:
            count, least = row[RIGHT[row["kind"]]], WANTED[row["kind"]]
            told.append((f"{where}: *{RIGHT[row['kind']]}* {count} of {n}, at least {least:.0%}", count >= least * n))
        low, high = COVERED
        text = f"{where}: interval covers in {row['covered']:.1%}, {low:.0%} to {high:.0%}"
        told.append((text, low <= row["covered"] <= high))
    for name in ("run", "configuration"):
        error = ceilings.loc[ceilings["configurations"] == 64, name].abs().mean()
        told.append((f"64 configurations: {name} ceiling off by {error:.3f} on average, {CEILING}", error <= CEILING))
    return told


def changed_targets(table: pd.DataFrame) -> list[tuple[str, bool]]:
    """Targets of ledgers with changed outcomes: as few grave errors, and under a monotone change the same verdicts."""
    told = []
    for (outcome, configurations), part in table.groupby(["outcome", "configurations"], sort=False):
        where = f"{configurations} configurations, {outcome}"
        if outcome == EXP:
            count, n = part["changed"].sum(), part["n"].sum()
            told.append((f"{where}: {count} of {n} verdicts changed, none allowed", count == 0))
            continue
        for name in GRAVE:
            worst = part.loc[(part[f"wrong {name}"] / part["n"]).idxmax()]
            count, n = worst[f"wrong {name}"], worst["n"]
            text = f"wrong *{name}* {count} of {n} for {worst['kind']}, no other kind more, at most {MOST_WRONG:.0%}"
            told.append((f"{where}: {text}", count <= MOST_WRONG * n))
    return told


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, three decimals."""
    cells = table.map(lambda cell: f"{cell:.3f}" if isinstance(cell, float) else str(cell))
    lines = [list(cells.columns), ["---"] * len(cells.columns), *cells.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(
    table: pd.DataFrame, other: pd.DataFrame, ceilings: pd.DataFrame, families: pd.DataFrame, seconds: float
) -> str:
    """The whole text of error_rates.md."""
    means = ceilings.groupby("configurations", as_index=False).agg(
        run_bias=("run", "mean"),
        run_error=("run", lambda part: part.abs().mean()),
        configuration_bias=("configuration", "mean"),
        configuration_error=("configuration", lambda part: part.abs().mean()),
    )
    together = families.groupby("configurations", as_index=False).sum().assign(ledgers=len(families) // len(DESIGNS))
    met = [
        f"- {'met' if fine else '**missed**'}: {text}"
        for text, fine in (*targets(table, ceilings), *changed_targets(other))
    ]
    parts = [
        "# Error rates of the verdicts\n\nMade by `python -m benchmarks.error_rates`; docs/claims.md explains them."
        f" {len(table)} kinds and designs, {int(table['n'].max())} ledgers each, {seconds:.0f} s.",
        "## Verdicts, and coverage of 95 % intervals of tau\n\n" + markdown(table),
        "## Verdicts on the first of these ledgers with changed outcomes\n\n" + markdown(other),
        "## Noise ceilings: estimate minus truth, and its mean size\n\n" + markdown(means),
        "## Ten measures judged together: ledgers with a wrong statement, and known answers found\n\n"
        + markdown(together),
        "## Targets\n\n" + "\n".join(met),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Judge the ledgers, print the report and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.error_rates", description=__doc__.split("\n")[0])
    parser.add_argument("--ledgers", type=int, default=200, help="of each kind in each design (default 200)")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    given = parser.parse_args(arguments)
    numbers, start = range(given.ledgers), time.perf_counter()
    places = [(kind, size, number) for size in (64, 24) for kind in KINDS for number in numbers]
    rows = pd.DataFrame(gathered([partial(one, *place) for place in places], given.processes))
    table = verdict_table(rows)
    print(table.to_string(), flush=True)
    works = [partial(changed, name, *place) for name, most in CHANGED.items() for place in places if place[2] < most]
    other = changed_table(pd.DataFrame(gathered(works, given.processes)), rows)
    print(other.to_string(), flush=True)
    ceilings = pd.DataFrame(
        gathered([partial(ceiling, size, k) for size in (64, 24) for k in numbers], given.processes)
    )
    families = pd.DataFrame(gathered([partial(family, size, k) for size in (64, 24) for k in numbers], given.processes))
    text = report(table, other, ceilings, families, time.perf_counter() - start)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
