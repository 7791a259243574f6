"""What the statistics cost at the size of the paper's study and beyond it, beside the plain way.

    python -m benchmarks.analysis [--quick] [--out benchmarks/analysis.md]

The table is planted: a full design of the paper's shape (3 architectures x 7 defenses x 4 batch sizes x augmentation x
extra data x weight perturbation x two checkpoints, 1,344 models of 672 configurations, 8 axes) whose gaps are random
numbers, and 45 measures, each the gap with a random weight plus noise; every fifth one rounded so that it ties, every
seventh one missing for one model in twenty. The numbers say nothing about networks. For the larger table a ninth axis
of 15 values is added: 20,160 models of 10,080 configurations; there 3 measures are timed, and their seconds taken times
what 45 take in the smaller table for each second of 3. A run of tau, Spearman, psi and pi with all 45 took 80, 83, 55
and 673 seconds, so this is right to about a third.

Seconds are those of the processor, in one process of one thread, where a busy machine changes them least; wall seconds
stand beside them. The plain way is scipy.stats.kendalltau in a loop, for each draw over the rows as often as they are
drawn, timed for a few draws (psi: a few measures) and taken times their number. Both ways must give the same values.
"""

import argparse
import itertools
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from benchmarks.analysis_report import Cost, Plain, report
from robustgap.analysis.models.design import configurations
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.ranks.bootstrap import Bootstrap, weighted_tau
from robustgap.analysis.statistics.correlations import pi, psi, spearman, tau
from robustgap.analysis.statistics.increments import ladder
from robustgap.analysis.statistics.information import conditional_information
from robustgap.analysis.statistics.noise import noise
from robustgap.analysis.statistics.partial import partial_correlations
from robustgap.analysis.statistics.reliability import reliability
from robustgap.analysis.statistics.selection import selection
from robustgap.analysis.statistics.sign_errors import environment_errors, sign_errors
from robustgap.analysis.statistics.thresholds import thresholds
from robustgap.analysis.verdicts.claims import claims

DEFENSES = [("Standard", "NA"), *itertools.product(["AT", "TRADES", "MART"], ["1", "10"])]
NOISE = "noise and ceilings"  # of the outcome, not of measures
IMAGES = 8306.0  # 1 / (1 / 49,000 + 1 / 10,000)


@dataclass(frozen=True)
class Size:
    """How much is computed: the record, or a look and a test."""

    architectures: int
    batch_sizes: int
    widths: int
    measures: int
    wide_measures: int
    draws: int
    fewer_draws: int
    plain_draws: int
    plain_measures: int


FULL = Size(3, 4, 15, 45, 3, 2000, 200, 3, 3)
QUICK = Size(1, 1, 2, 7, 2, 40, 20, 1, 2)


def planted(size: Size, widths: int, seed: int = 0) -> tuple[pd.DataFrame, list[str], list[str]]:
    """(table of models, axes, measures)."""
    rng = np.random.default_rng(seed)
    levels: dict[str, list] = {
        "architecture": [f"a{k}" for k in range(size.architectures)],
        "defense": DEFENSES,
        "batch_size": [str(32 * 2**k) for k in range(size.batch_sizes)],
        **{name: ["false", "true"] for name in ("augmentation", "extra_data", "awp")},
        "width": [str(k) for k in range(widths)],
        "checkpoint": ["last", "best"],
    }
    table = pd.DataFrame(itertools.product(*levels.values()), columns=list(levels))
    table["inner_steps"] = table["defense"].str[1]
    table["defense"] = table["defense"].str[0]
    axes = [name for name in (*levels, "inner_steps") if len(set(table[name])) > 1]
    gap = 5 * rng.standard_normal(len(table)) + 20
    columns = {}
    for k, weight in enumerate(rng.uniform(-1, 1, size.measures)):
        values = weight * gap + 5 * rng.standard_normal(len(table))
        values = np.round(values) if k % 5 == 4 else values
        columns[f"m{k}"] = np.where(rng.random(len(table)) < 0.05, np.nan, values) if k % 7 == 6 else values
    beside = {"gap": gap, "se_gap": 0.5, "test": 50 - gap, "images": IMAGES}
    return table.assign(seed="0", **beside, **columns), axes, list(columns)


def cost(part: str, models: int, measures: int, draws: int, work: Callable[[], list[dict]]) -> Cost:
    """Run `work`; peak is the most memory (MiB) that this process ever had, up to its end."""
    wall, start = time.perf_counter(), time.process_time()
    rows = work()
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{part}, {models} models: {seconds:.1f} s", file=sys.stderr, flush=True)
    return Cost(part, models, measures, draws, seconds, wall, peak, rows)


def correlation_costs(table: pd.DataFrame, axes: list[str], measures: list[str], draws: int) -> list[Cost]:
    """tau and tau-a, Spearman, psi and pi with detail, each with intervals."""
    bootstrap = Bootstrap(draws)
    works: dict[str, Callable[[], list[dict]]] = {
        "tau": lambda: list(tau(table, axes, "gap", measures, bootstrap)),
        "Spearman": lambda: list(spearman(table, axes, "gap", measures, bootstrap)),
        "psi": lambda: [row for k in axes for row in psi(table, k, axes, "gap", measures, "seed", bootstrap)],
        "pi": lambda: [row for k in axes for row in pi(table, k, axes, "gap", measures, bootstrap)],
    }
    return [cost(part, len(table), len(measures), draws, work) for part, work in works.items()]


def other_costs(table: pd.DataFrame, axes: list[str], measures: list[str], size: Size) -> list[Cost]:
    """The statistics that are asked for with fewer draws; increments and verdicts have intervals without any."""
    few, seeds = size.fewer_draws, "augmentation"  # there is one seed: these two values are taken for two
    runs = [name for name in axes if name != seeds]
    given: dict[str, Any] = {"axes": axes, "outcome": "gap", "measures": measures, "draws": few}
    asked = {name: given[name] for name in ("axes", "outcome", "measures")}
    works: dict[str, Callable[[], pd.DataFrame]] = {
        "partial tau given one column": lambda: partial_correlations(table, given=["m0"], **given),
        "tau by threshold, all and by defense": lambda: thresholds(table, column="m0", within="defense", **given),
        "conditional information": lambda: conditional_information(table, **given),
        "sign errors": lambda: sign_errors(table, images="images", **given),
        "sign errors of every environment": lambda: environment_errors(table, images="images", **asked),
        "reliability": lambda: reliability(table, axes=runs, measures=measures, draws=few),
        NOISE: lambda: noise(table, axes=axes, outcome="gap", seed_column="seed", se="se_gap", draws=few),
        "selection": lambda: selection(
            table, axes=axes, target="test", measures=measures, seed_column="seed", draws=few
        ),
        "increments, each axis value left out": lambda: ladder(make_study(table, **asked), state=["m0"]),
        "verdicts": lambda: claims(table, se="se_gap", **asked)[0],
    }
    counted = {part: 0 if part == NOISE else len(measures) for part in works}
    return [
        cost(part, len(table), counted[part], few, lambda work=work: work().to_dict("records"))  # type: ignore[misc]
        for part, work in works.items()
    ]


def plain_tau(x: np.ndarray, y: np.ndarray) -> float:
    known = ~np.isnan(x)
    return kendalltau(x[known], y[known]).statistic if known.sum() > 1 else np.nan


def largest(ours: list[float], plain: list[float]) -> float:
    """Largest absolute difference; infinite where one is defined and the other is not."""
    a, b = np.array(ours), np.array(plain)
    gone = np.isnan(a) & np.isnan(b)
    return float(np.nan_to_num(np.abs(a - b)[~gone], nan=np.inf).max(initial=0))


def plain_draws(table: pd.DataFrame, axes: list[str], measures: list[str], draws: int, few: int) -> Plain:
    """tau of the table and of its first draws: the rows copied as often as their configuration is drawn."""
    block, y = configurations(table, axes), table["gap"].to_numpy()
    weights = Bootstrap(draws).weights(np.zeros(block.max() + 1), "tau")[: few + 1]
    ours, plain, seconds = [], [], 0.0
    for measure in measures:
        x = table[measure].to_numpy()
        known = ~np.isnan(x)
        ours += weighted_tau(x[known], y[known], block[known], weights)[0].tolist()
        start = time.process_time()
        for weight in weights.astype(int):
            copies = np.repeat(np.arange(len(x)), weight[block])
            plain.append(plain_tau(x[copies], y[copies]))
        seconds += time.process_time() - start
    told = f"{few + 1} of {draws + 1} draws"
    return Plain("tau", seconds * (draws + 1) / (few + 1), told, largest(ours, plain))


def plain_pi(table: pd.DataFrame, axes: list[str], measures: list[str], draws: int, ours: list[dict]) -> Plain:
    """pi of every value of every axis, without draws, as if each draw took as long."""
    found = {(row["measure"], row["axis"], row["value"]): row["estimate"] for row in ours}
    mine, plain, start = [], [], time.process_time()
    for axis, measure in itertools.product(axes, measures):
        for value, part in table.groupby(axis):
            plain.append(plain_tau(part[measure].to_numpy(), part["gap"].to_numpy()))
            mine.append(found[measure, axis, value])
    seconds = time.process_time() - start
    return Plain("pi", seconds * (draws + 1), f"1 of {draws + 1} draws", largest(mine, plain))


def plain_psi(table: pd.DataFrame, axes: list[str], measures: list[str], few: int, ours: list[dict]) -> Plain:
    """psi of every axis for a few measures: kendalltau of each cell (its draws are but weighted means)."""
    found = {(r["measure"], r["axis"]): r["estimate"] for r in ours if not r["given_axis"]}
    mine, plain, start = [], [], time.process_time()
    for axis, measure in itertools.product(axes, measures[:few]):
        cells = table.groupby([other for other in axes if other != axis])
        taus = np.array([plain_tau(cell[measure].to_numpy(), cell["gap"].to_numpy()) for _, cell in cells])
        plain.append(taus[~np.isnan(taus)].mean())
        mine.append(found[measure, axis])
    seconds = (time.process_time() - start) * len(measures) / few
    return Plain("psi", seconds, f"{few} of {len(measures)} measures, without draws", largest(mine, plain))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What the statistics cost.")
    parser.add_argument("--quick", action="store_true", help="a small table and few draws: the numbers mean nothing")
    parser.add_argument("--out", type=Path, help="write the tables there as well")
    given = parser.parse_args(arguments)
    size = QUICK if given.quick else FULL
    table, axes, measures = planted(size, widths=1)
    costs = correlation_costs(table, axes, measures, size.draws)
    ours = {one.part: one.rows for one in costs}
    plain = [
        plain_draws(table, axes, measures, size.draws, size.plain_draws),
        plain_psi(table, axes, measures, size.plain_measures, ours["psi"]),
        plain_pi(table, axes, measures, size.draws, ours["pi"]),
    ]
    if wrong := [one for one in plain if not one.difference < 1e-9]:
        print("\n".join(f"error: {one.part} differs by {one.difference}" for one in wrong), file=sys.stderr)
        return 1
    costs += other_costs(table, axes, measures, size)
    first = measures[: size.wide_measures]
    few = correlation_costs(table, axes, first, size.draws) + other_costs(table, axes, first, size)
    table, axes, _ = planted(size, widths=size.widths)
    wide = correlation_costs(table, axes, first, size.draws) + other_costs(table, axes, first, size)
    text = report(costs, plain, few, wide)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
