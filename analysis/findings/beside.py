"""Sentences about baselines, controls, comparisons of the best measure, and groups of measures."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd

from robustgap.analysis.labels import with_interval
from robustgap.analysis.models.baselines import BASELINE, CONTROL, FITTED, LOSS, MEASURE, RANDOM, ROBUST
from robustgap.analysis.verdicts.alike import ALIKE
from robustgap.analysis.verdicts.claims import PROXY, UNRESOLVED

EXPECTED = {RANDOM: (UNRESOLVED,), FITTED: (PROXY, UNRESOLVED)}
MEANT = {
    RANDOM: "a random number per model knows nothing",
    FITTED: "what main effects of the settings say of the gap knows nothing beyond them",
}


def check_sentences(claims: pd.DataFrame) -> list[str]:
    """Whether the controls got the verdicts expected of them. claims: with the column `kind`."""
    rows = claims[claims["kind"] == CONTROL]
    sentences = []
    for name, verdict in zip(rows["measure"], rows["verdict"], strict=True):
        control = str(name).rstrip("_")
        passed = verdict in EXPECTED[control]
        wanted = " or ".join(EXPECTED[control])
        if passed:
            sentences.append(f"Check passed: {MEANT[control]}, and its verdict is {verdict} (expected: {wanted}).")
        else:
            sentences.append(
                f"Check failed: {MEANT[control]}, but its verdict is {verdict} (expected: {wanted}). Chance alone does "
                "this in a few studies of a hundred; the verdicts on measures deserve more doubt here."
            )
    return sentences


def interval_text(row: dict[str, Any]) -> str:
    """An estimate with its interval; None stands for an unknown number."""
    return with_interval(*(math.nan if row[end] is None else row[end] for end in ("estimate", "low", "high")))


def about_baselines(beside: dict[str, Any]) -> Iterator[str]:
    taus = [f"{name} {interval_text(tau)}" for name, tau in beside["tau"].items()]
    if taus:
        yield (
            "Baselines, which need no measure, have these tau with the gap (single 95% intervals, uncorrected): "
            f"{'; '.join(taus)}."
        )
    if ROBUST in beside["tau"]:
        yield (
            f"The {ROBUST} is one half of the gap, taken on the same images: it shares their sampling noise, which "
            "raises its tau and its increments."
        )
    if LOSS in beside["absent"]:
        yield "The training loss is no baseline here: this ledger was made before training losses were kept in it."
    if others := [name for name in beside["absent"] if name != LOSS]:
        yield f"No baseline, as this ledger does not have it: {', '.join(others)}."


def comparison_text(best: str, row: dict[str, Any], named: Callable[[str], str]) -> str:
    """'a is ... better than b: their |tau| differ by ...'."""
    words = {1: "ranks the models better than", -1: "ranks the models worse than"}
    answer = words.get(row["side"], "cannot be told apart from")
    return f"{named(best)} {answer} {named(row['other'])}: its |tau| differs by {interval_text(row)}"


def about_comparisons(compared: dict[str, Any] | None, named: Callable[[str], str]) -> Iterator[str]:
    if compared is None:
        return
    best, others = compared["best"], compared[MEASURE]
    if others:
        worse = sum(row["side"] == 1 for row in others)
        yield (
            f"Is the best measure better than the second? {comparison_text(best, others[0], named)} (family-wise 95% "
            f"interval, over all pairs of measures). Of {len(others)} other measure columns, {worse} "
            f"{'ranks' if worse == 1 else 'rank'} the models worse than {named(best)}, by these intervals."
        )
        apart = [row for row in others if row["other"] not in compared["group"]]
        if apart and apart[0] is not others[0]:
            yield (
                "The second orders the models as the best does; of those that do not, the strongest: "
                f"{comparison_text(best, apart[0], named)} (family-wise 95% interval)."
            )
    for row in compared[BASELINE]:
        yield (
            f"Against a baseline: {comparison_text(best, row, named)} (family-wise 95% interval, over all measures "
            "against this baseline)."
        )


def about_groups(groups: Sequence[Sequence[str]], named: Callable[[str], str]) -> Iterator[str]:
    if groups:
        texts = "; ".join(", ".join(map(named, group)) for group in groups)
        yield (
            f"Measures that order the models alike (|tau| between each two of them at least {ALIKE}) are one finding, "
            f"not several: {texts}."
        )


def beside_sentences(beside: dict[str, Any], named: Callable[[str], str]) -> Iterator[str]:
    """beside: that part of `analysis.findings.numbers.find`; named: formats the name of a measure column."""
    yield from about_baselines(beside)
    yield from about_comparisons(beside["compared"], named)
    yield from about_groups(beside["groups"], named)
    yield from beside["check"]
