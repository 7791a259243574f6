"""How often a verdict changes although the study says the same thing.

    python -m benchmarks.verdict_stability [--ledgers 12] [--processes 2] [--out benchmarks/verdict_stability.md]

Per design (24 and 64 configurations) and kind of measure (benchmarks.known_answers) that many ledgers are judged by
`analysis.verdicts.claims.claims`, and judged again: under 6 renamings and orders (benchmarks.changed_ledgers), with 6
other seeds of the rule, with exp(1.5 gap) as the outcome, and with one gap times 100, for 4 models of the ledger in
turn. A verdict is changed where it, or the axis on which a sign depends, is not that of the first time. Beside it stand
how many genuine measures are found with 24 configurations, and what verdicts cost for 1,344 models and 45 measures.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.analysis import FULL, QUICK, Size, planted
from benchmarks.changed_ledgers import EXP, RENAMINGS, TIMES_100, exponential, outlier
from benchmarks.error_rates import gathered, judged, markdown
from benchmarks.known_answers import make
from robustgap.analysis.verdicts.claims import PROXY, REPLICATES, claims

SIZES = (64, 24)
STABLE = ("null", "axis_proxy", "interaction_proxy", "genuine", "sign_flip")
SEEDS, OUTLIERS, RENAMED = range(1, 7), range(4), 3  # RENAMED: key of the random numbers of renamings
OTHER_SEED = "another seed"
BARS = {  # the largest share of changed verdicts, by change and configurations
    "renamings": {24: 0.0, 64: 0.0},
    OTHER_SEED: {24: 0.02, 64: 0.01},
    EXP: {24: 0.0, 64: 0.0},
    TIMES_100: {24: 0.10, 64: 0.04},
}
EARLIER = 98  # genuine measures found in the first 200 ledgers with 24 configurations by the rule of commit fc93578
AIMED, SECONDS = 0.52, 25.0


def verdict(table: pd.DataFrame, **asked) -> tuple[str, str]:
    """Verdict and axis of the measure m."""
    found = judged(table, ["m"], **asked).loc["m"]
    return found["verdict"], found["axis"]


def again(kind: str, configurations: int, number: int) -> list[dict]:
    """A ledger judged once and then in every other way: a row for each of those."""
    table = make(kind, configurations, number)[1].table
    first, made = verdict(table), []

    def add(change: str, detail: str, found: tuple[str, str]) -> None:
        made.append({"change": change, "detail": detail, "then": found[0], "changed": found != first})

    for place, (name, renamed) in enumerate(RENAMINGS.items()):
        other, axes, names = renamed(table, np.random.default_rng([number, configurations, RENAMED, place]))
        found, axis = verdict(other, axes=axes)
        add("renamings", name, (found, names.get(axis, axis)))
    for seed in SEEDS:
        add(OTHER_SEED, str(seed), verdict(table, seed=seed))
    add(EXP, "", verdict(exponential(table)))
    for which in OUTLIERS:
        add(TIMES_100, str(which), verdict(outlier(table, number, which)))
    return [
        {"configurations": configurations, "kind": kind, "number": number, "first": first[0], **row} for row in made
    ]


def is_found(number: int) -> bool:
    """Whether the genuine measure of a ledger with 24 configurations replicates."""
    return verdict(make("genuine", 24, number)[1].table)[0] == REPLICATES


def to_proxy(rows: pd.DataFrame) -> int:
    """How many genuine measures became proxies."""
    return int((rows["changed"] & (rows["kind"] == "genuine") & (rows["then"] == PROXY)).sum())


def changes_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Changed verdicts per design and change: in all, of how many, genuine ones that became proxies, and by kind."""
    table = []
    for (configurations, change), part in rows.groupby(["configurations", "change"], sort=False):
        row = {"configurations": configurations, "change": change}
        row |= {"changed": int(part["changed"].sum()), "of": len(part), "share": part["changed"].mean()}
        row |= {"genuine to proxy": to_proxy(part)}
        table.append(row | {kind: int(part.loc[part["kind"] == kind, "changed"].sum()) for kind in STABLE})
    return pd.DataFrame(table)


def ways_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Changed verdicts by what they were and became."""
    names = ["configurations", "change", "kind", "first", "then"]
    return rows[rows["changed"]].groupby(names, sort=False, as_index=False).size().rename(columns={"size": "verdicts"})


def bars(table: pd.DataFrame, genuine: int, ledgers: int, seconds: float) -> list[tuple[str, bool]]:
    """Every bar in words, and whether it is met."""
    told = []
    for row in table.to_dict("records"):
        most = BARS[row["change"]][row["configurations"]]
        text = (
            f"{row['configurations']} configurations, {row['change']}: {row['changed']} of {row['of']} verdicts changed"
        )
        told.append((f"{text}, at most {most:.0%}", row["changed"] <= most * row["of"]))
        if row["change"] == TIMES_100:
            text = (
                f"{row['configurations']} configurations, {row['change']}: genuine to *proxy* {row['genuine to proxy']}"
            )
            told.append((f"{text}, none allowed", row["genuine to proxy"] == 0))
    text = f"24 configurations: genuine found in {genuine} of {ledgers}"
    told.append((f"{text}, no fewer than {EARLIER / 200:.0%}", genuine >= EARLIER / 200 * ledgers))
    told.append((f"{text}, aim above {AIMED:.0%}", genuine > AIMED * ledgers))
    told.append(
        (f"verdicts of 1,344 models and 45 measures: {seconds:.1f} s, at most {SECONDS:.0f}", seconds <= SECONDS)
    )
    return told


def cost(size: Size) -> tuple[float, int, int]:
    """Seconds of the processor for the verdicts of a planted table, its models and its measures."""
    table, axes, measures = planted(size, widths=1)
    start = time.process_time()
    claims(table, axes=axes, outcome="gap", measures=measures, se="se_gap")
    return time.process_time() - start, len(table), len(measures)


def report(rows: pd.DataFrame, genuine: int, ledgers: int, costs: tuple[float, int, int], seconds: float) -> str:
    """The whole text of verdict_stability.md."""
    table, ways = changes_table(rows), ways_table(rows)
    renamings = rows[rows["change"] == "renamings"].groupby(["configurations", "detail"], sort=False, as_index=False)
    renamed = (
        renamings["changed"].agg(["sum", "size"]).rename(columns={"detail": "renaming", "sum": "changed", "size": "of"})
    )
    met = [f"- {'met' if fine else '**missed**'}: {text}" for text, fine in bars(table, genuine, ledgers, costs[0])]
    many = len(rows[["kind", "number"]].drop_duplicates())
    parts = [
        "# How steady the verdicts are\n\nMade by `python -m benchmarks.verdict_stability`, which says how;"
        f" docs/claims.md draws on it. {many} ledgers of each design, {seconds:.0f} s.",
        "## Verdicts that changed, in all and by kind of measure\n\n" + markdown(table),
        "## What they were and became\n\n" + (markdown(ways) if len(ways) else "None changed."),
        "## Renamings and orders one by one\n\n" + markdown(renamed),
        f"## Genuine measures found with 24 configurations\n\n{genuine} of {ledgers} ledgers replicate; by the rule of"
        f" commit fc93578, {EARLIER} of the first 200.",
        f"## What verdicts cost\n\n{costs[1]:,} models, {costs[2]} measures (the table of benchmarks/analysis.py):"
        f" {costs[0]:.1f} s of the processor, in one process of one thread.",
        "## Bars\n\n" + "\n".join(met),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Judge the ledgers again and again, print the report and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdict_stability", description=__doc__.split("\n")[0])
    parser.add_argument("--ledgers", type=int, default=12, help="of each kind in each design (default 12)")
    parser.add_argument("--genuine", type=int, default=200, help="genuine ones with 24 configurations (default 200)")
    parser.add_argument("--quick", action="store_true", help="the cost of a small table: the number means nothing")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    costs = cost(QUICK if given.quick else FULL)
    numbers = range(given.ledgers)
    works = [partial(again, kind, size, number) for size in SIZES for kind in STABLE for number in numbers]
    rows = pd.DataFrame([row for found in gathered(works, given.processes) for row in found])
    genuine = sum(gathered([partial(is_found, number) for number in range(given.genuine)], given.processes))
    text = report(rows, genuine, given.genuine, costs, time.perf_counter() - start)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
