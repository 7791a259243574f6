"""How many of the removals that turn a verdict are found when not every configuration is left out.

    python -m benchmarks.removals [--ledgers 20] [--out benchmarks/removals.md]

Of a study with more configurations than `analysis.verdicts.removals.EXACT` only those are left out that are ranked
first by what the parts of the errors predict. Here that ranking is made for planted ledgers with 24 and 64
configurations and ten
measures (benchmarks.known_answers.make_family), of which each configuration is then left out and judged by `claims`: a
removal turns a measure's verdict, or not. The table says which share of those that do
is among the first of the ranking.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.known_answers import AXES, DESIGNS, FAMILY, make_family
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.verdicts.claims import claims, judge
from robustgap.analysis.verdicts.removals import by_measure, ranking
from robustgap.analysis.verdicts.statements import statement_rows, statements_of

FIRST = (6, 12, 24, 32)  # how many are left out


def turning(size: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one ledger: the configurations as ranked, (size,), and which removals turn which verdicts, (size, 10)."""
    table, measures = make_family(size, number).table, list(FAMILY)
    signs = dict.fromkeys(measures, 1)
    study = make_study(table, axes=AXES, outcome="gap", measures=measures)
    made = statements_of(study)
    rows = statement_rows(made, study)
    verdicts = [judge(own, 1)[0] for own in by_measure(rows, measures)]
    order = ranking(made, rows, signs, verdicts)
    turned = np.zeros((size, len(measures)), dtype=bool)
    for place in range(size):
        rest = study.table[study.block != place].reset_index(drop=True)
        found, _ = claims(rest, axes=AXES, outcome="gap", measures=measures, signs=signs)
        turned[place] = found["verdict"].to_numpy() != np.array(verdicts)
    return order, turned


def table(size: int, found: list[tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """The rows of one size of ledgers."""
    total = sum(int(turned.sum()) for _, turned in found)
    measures = sum(int(turned.any(axis=0).sum()) for _, turned in found)
    lines = [
        f"\n## {size} configurations\n",
        f"{len(found)} ledgers, {len(found) * len(FAMILY)} verdicts: {total} removals turn a verdict;"
        f" {measures} verdicts are turned by at least one.\n",
        "| left out | of the removals that turn a verdict | of the verdicts that some removal turns |",
        "|--:|--:|--:|",
    ]
    for first in [first for first in FIRST if first < size]:
        pairs = sum(int(turned[order[:first]].sum()) for order, turned in found)
        verdicts = sum(int(turned[order[:first]].any(axis=0).sum()) for order, turned in found)
        shares = [f"{count} ({count / max(all_, 1):.0%})" for count, all_ in ((pairs, total), (verdicts, measures))]
        lines.append(f"| {first} | {shares[0]} | {shares[1]} |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Judge the ledgers, print the report and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.removals", description=__doc__.split("\n")[0])
    parser.add_argument("--ledgers", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="+", default=sorted(DESIGNS), choices=sorted(DESIGNS))
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    given = parser.parse_args(arguments)
    start, lines = time.process_time(), list[str]()
    for size in given.sizes:
        lines += table(size, [turning(size, number) for number in range(given.ledgers)])
    seconds = time.process_time() - start
    title = "# Removals that turn a verdict, and how many of them a ranking finds"
    text = f"{title}\n\nMade by `python -m benchmarks.removals`; {seconds:.0f} s.\n" + "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
