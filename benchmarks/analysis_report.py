"""The tables of `benchmarks.analysis` as Markdown."""

import platform
from dataclasses import dataclass

import numpy as np

SLOW = ("conditional information", "sign errors", "increments, each axis value left out", "verdicts")


@dataclass(frozen=True)
class Cost:
    """What a part took, and what it gave."""

    part: str
    models: int
    measures: int
    draws: int
    seconds: float
    wall: float
    peak: float
    rows: list[dict]


@dataclass(frozen=True)
class Plain:
    """The plain way: seconds as if for all measures and draws, and the largest difference of values from ours."""

    part: str
    seconds: float
    done: str
    difference: float


def growth(costs: list[Cost], few: list[Cost]) -> dict[str, float]:
    """How many times as long each part takes for all measures as for a few, in the same table."""
    less = {one.part: one.seconds for one in few}
    return {one.part: one.seconds / max(less[one.part], 1e-3) if one.measures else 1.0 for one in costs}


def costs_table(costs: list[Cost], measures: int = 0, times: dict[str, float] | None = None) -> list[str]:
    """A row for each part; with `times` a last column, so many times the seconds, for so many measures."""
    heads = ["part", "models", "measures", "draws", "seconds", "wall seconds", "MiB so far"]
    heads += [f"seconds for {measures}"] if times else []
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    for one in costs:
        cells = [one.part, f"{one.models:,}", f"{one.measures}", f"{one.draws:,}"]
        cells += [f"{one.seconds:.1f}", f"{one.wall:.1f}", f"{one.peak:.0f}"]
        cells += [f"{one.seconds * times[one.part]:.0f}"] if times else []
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def sampled(costs: list[Cost]) -> str:
    """A sentence on pairs of models, where they were too many to look at each, else nothing."""
    rows = [row for one in costs if one.part == SLOW[0] for row in one.rows]
    most = max(rows, key=lambda row: row["n"])
    if most["pairs"] == most["n"]:
        return ""
    told = f" Conditional information comes from a sample of {most['pairs']:,} of {most['n']:,} pairs of models"
    return f"{told}; there each measure takes as long as any other."


def report(costs: list[Cost], plain: list[Plain], few: list[Cost], wide: list[Cost]) -> str:
    """All tables. few: with fewer measures; wide: with as few, of the larger table."""
    versions = f"NumPy {np.__version__}, {platform.machine()} CPU, one process of one thread"
    ours = {one.part: one.seconds for one in costs}
    first = [one for one in costs if one.draws == costs[0].draws]
    lines = [
        "# What the statistics cost",
        "",
        "A planted table of random numbers (they say nothing about networks); made by `python -m benchmarks.analysis`, "
        f"which says how. {versions}. Seconds are processor time; wall seconds include waiting on a busy machine. "
        "Increments and verdicts have intervals without draws, every environment's sign error has none.",
        "",
        *costs_table(costs),
        "",
        f"Together: tau, Spearman, psi and pi {sum(one.seconds for one in first):.1f} s; conditional information, sign "
        f"errors, increments and verdicts {sum(ours[part] for part in SLOW):.1f} s.",
        "",
        f"The plain way, scipy.stats.kendalltau in a loop, {costs[0].models:,} models:",
        "",
        "| part | done | seconds for all, at that rate | seconds here | times as fast | largest difference |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for other in plain:
        here = ours[other.part]
        lines.append(
            f"| {other.part} | {other.done} | {other.seconds:.0f} | {here:.1f} | {other.seconds / here:.0f} "
            f"| {other.difference:.0e} |"
        )
    measures, told, times = costs[0].measures, sampled(wide), growth(costs, few)
    if told:  # then no part of it is shared by the measures
        times[SLOW[0]] = measures / wide[0].measures
    whole = sum(one.seconds * times[one.part] for one in wide) / 60
    lines += [
        "",
        f"A table of {wide[0].models:,} models. The last column is extrapolated: as many times the seconds as "
        f"{measures} measures take those of {wide[0].measures} in the table of {costs[0].models:,} models (right to "
        f"about a third, where both were tried: see there).{told}",
        "",
        *costs_table(wide, measures, times),
        "",
        f"All of it for {measures} measures, at that rate: {whole:.0f} minutes.",
    ]
    return "\n".join([*lines, ""])
