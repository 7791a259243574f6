"""Sentences about a study's outcomes: how far they agree, what robust accuracy shows, and which answers change."""

from collections.abc import Iterator

import pandas as pd

from robustgap.analysis.findings.sentences import listed
from robustgap.analysis.labels import count, signed, with_interval
from robustgap.analysis.outcome_names import GAP
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics._outcomes import alike, asked
from robustgap.analysis.statistics.outcomes_change import CHANGES, MARGIN, SAME, UNDECIDED
from robustgap.analysis.statistics.outcomes_tau import clear
from robustgap.analysis.words import explained_words, outcome_name


def about_models(statistics: Statistics) -> Iterator[str]:
    """Which outcomes some models lack."""
    ledger, models, lacking = statistics.ledger, statistics.data.models, dict[str, int]()
    for name, column in asked(statistics.data).items():
        if column.kind == GAP and (number := int(models[name].isna().sum())):
            lacking[outcome_name(column.outcome)] = number
    if lacking:
        words = listed([f"{name} ({number:,} of {len(models):,} models)" for name, number in lacking.items()], 8)
        yield f"Not every model has every outcome. Left out where it is asked about: of {words}."
    if not ledger.has_losses:
        yield "Losses on attacked images are not asked about: this ledger does not hold them."


def about_agreement(statistics: Statistics) -> Iterator[str]:
    """Tau of the study's outcome with the same under other attacks."""
    ledger, rows = statistics.ledger, statistics.table("outcomes_agreement")
    own, others = ledger.outcome, alike(ledger.explained, asked(statistics.data))
    one_way = rows[(rows["outcome"] == own) & rows["other"].isin(others)].set_index("other")
    back = rows[(rows["other"] == own) & rows["outcome"].isin(others)].set_index("outcome")
    known = pd.concat([one_way, back])
    if len(known := known[known["estimate"].notna()].sort_values("estimate", kind="stable")):
        words = [
            f"{explained_words(ledger.explain(str(name)))} {with_interval(row['estimate'], row['low'], row['high'])}"
            for name, row in known.iterrows()
        ]
        yield (
            f"Agreement with the {explained_words(ledger.explained)}, as tau between the two over the models (single "
            f"95% intervals), least first: {'; '.join(words)}."
        )


def about_accuracy(statistics: Statistics) -> Iterator[str]:
    """Whether measures say anything about robust accuracy, which Kim et al. did not find."""
    ledger, rows = statistics.ledger, statistics.table("outcomes_tau")
    shown = ledger.explained.shown if ledger.explained.shown != "clean" else "pgd10"
    words, total = list[str](), 0
    for split, images in (("train", "training"), ("test", "test")):
        taus = rows[(rows["outcome"] == f"{shown}_{split}") & (rows["statistic"] == "tau")]
        if taus["family_low"].notna().any():
            strongest = clear(taus)
            total += len(strongest)
            best = [f"{statistics.label(row.measure)} {signed(row.estimate)}" for row in strongest[:3].itertuples()]
            told = f" (strongest: {listed(best)})" if best else ""
            words.append(f"{len(strongest)} of {len(taus)} measure columns on {images} images{told}")
    if words:
        answer = "That does not hold here" if total else "That holds here"
        yield (
            "Kim et al. (NeurIPS 2023) report nothing significant for robust accuracy itself, as opposed to the gap. "
            f"{answer}: the family-wise 95% interval of tau with {outcome_name(shown)} accuracy excludes 0 for "
            f"{' and for '.join(words)}. A tau with accuracy may be no more than that of the settings: robust training "
            "shows in most measures."
        )


def about_changes(statistics: Statistics) -> Iterator[str]:
    """Which answers change from the study's outcome to the others."""
    ledger, rows = statistics.ledger, statistics.table("outcomes_change")
    rows, own = rows[rows["undefined"] == 0], explained_words(ledger.explained)
    peers = alike(ledger.explained, asked(statistics.data))
    for other in peers:
        part = rows[rows["outcome"] == other]
        if part.empty:
            continue
        changed = part[part["verdict"] == CHANGES]
        changed = changed.loc[changed["estimate"].abs().sort_values(ascending=False, kind="stable").index]
        named = [
            f"{statistics.label(row.measure)} (tau {signed(row.tau)} becomes {signed(row.tau_other)})"
            for row in changed.itertuples()
        ]
        counts = part["verdict"].value_counts()
        yield (
            f"From the {own} to the {explained_words(ledger.explain(other))}, the answer changes for "
            f"{f'{len(named)} of {len(part)} measure columns: {listed(named)}' if named else 'no measure column'}; it "
            f"does not change (by more than {MARGIN} in tau) for {counts.get(SAME, 0)}, and is undecided for "
            f"{counts.get(UNDECIDED, 0)}."
        )
    if len(rows):
        families = f"{count(len(rows), 'difference')} of tau ({count(rows['outcome'].nunique(), 'other outcome')})"
        yield f"These verdicts rest on family-wise 95% intervals over all {families}, on the same models."


def outcome_sentences(statistics: Statistics) -> list[str]:
    """What the outcomes of a ledger say together."""
    parts = (about_models, about_agreement, about_accuracy, about_changes)
    return [sentence for about in parts for sentence in about(statistics)]
