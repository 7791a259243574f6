"""Findings of a study in sentences, made from numbers (analysis.findings.numbers); none claims more than its intervals
support.

A statement about one measure rests on that measure's single interval; where measures are compared, the text says that
it is not corrected for the number of measures. Each sentence names the kind of its interval. That a sign depends on a
setting is stated only if the verdict (analysis.verdicts.claims) says so: judging it by single intervals would mean
looking at every measure, axis and value.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from robustgap.analysis.findings.beside import beside_sentences, interval_text
from robustgap.analysis.labels import count, measure_label, minus
from robustgap.analysis.models.flags import flag_words
from robustgap.analysis.outcome_names import OutcomeColumn
from robustgap.analysis.words import CEILINGS, COMPONENTS, explained_words, unit

MOST = 5  # items listed individually in a sentence


def listed(words: list[str], most: int = MOST) -> str:
    """'a, b and c'; beyond `most`, 'a, b and 7 others'."""
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} others"]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def names_of(facts: dict[str, Any], columns: Iterable[str]) -> str:
    """Measure columns as a list, labelled as in figures."""
    return listed([measure_label(column, facts["columns"]) for column in columns])


def percent(share: float) -> str:
    """'12%', or 'under 1%'."""
    return f"{share:.0%}" if share >= 0.005 else "under 1%"


def about_models(facts: dict[str, Any]) -> Iterator[str]:
    """Which models were analysed, and which were not."""
    sample = facts["sample"]
    of = f" of {count(sample['configurations'], 'configuration')}" if sample["configurations"] else ""
    yield f"{count(sample['models'], 'model')}{of} are analysed, of {sample['planned']:,} planned."
    if sample["elsewhere"] and sample["configurations"]:
        yield f"{count(sample['elsewhere'], 'model')} among them were trained elsewhere; they count in tau alone."
    lost = [
        f"{sample[kind]:,} {word}"
        for kind, word in (("collapsed", "collapsed in training"), ("failed", "failed"))
        if sample[kind]
    ]
    if lost:
        yield f"Left out, each listed with its reason: {listed(lost)}."
    flags = [f"{number:,} {flag_words(flag)}" for flag, number in sample["flags"].items()]
    if flags:
        yield f"Flagged, and kept: {listed(flags)}."


def about_gap(facts: dict[str, Any]) -> Iterator[str]:
    """Size of the outcome, relative to the sampling error of its images."""
    gap, explained = facts["gap"], OutcomeColumn.read(facts["outcome"])
    words = explained_words(explained)
    if not gap["n"]:
        yield f"No model has a {words}; nothing can be said about measures."
        return
    low, middle, high = (minus(f"{gap[name]:.1f}") for name in ("min", "median", "max"))
    in_unit = f" {unit(explained)}" if unit(explained) else ""
    yield f"The {words} runs from {low} to {high}{in_unit}, with a median of {middle}."
    if (unknown := facts["sample"]["models"] - gap["n"]) > 0:
        yield f"It is not known for {count(unknown, 'model')}, left out of all that is said about it."
    if gap["adversarially_trained"]:
        yield (
            f"Of {count(gap['adversarially_trained'], 'adversarially trained model')}, {gap['above_2_se']:,}"
            f" ({gap['share_above_2_se']:.0%}) have a gap above 2 of its standard errors (image sampling only)."
        )


def about_noise(facts: dict[str, Any]) -> Iterator[str]:
    """Components of the outcome's variance, and the resulting noise ceilings of tau."""
    share, ceiling = facts["noise"]["share"], facts["noise"]["ceiling"]
    if known := {name: words for name, (words, _) in COMPONENTS.items() if name in share}:
        parts = listed([f"{percent(share[name]['estimate'])} {words}" for name, words in known.items()], len(known))
        yield f"What sets the gaps of the models apart (estimated shares of their variance): {parts}."
    ceilings = [f"{interval_text(ceiling[name])} {words}" for name, (words, _) in CEILINGS.items() if name in ceiling]
    if ceilings:
        yield f"Noise bounds tau: the largest to be expected is {listed(ceilings)} (single 95% intervals)."
    if (share or ceiling) and not facts["noise"]["shared_images"]:
        yield (
            "For this the image noise of different models was taken to be independent, as their answers to single"
            " images are not at hand; models judged on the same images share some of it, so the bound may be too low."
        )


def about_strength(facts: dict[str, Any]) -> Iterator[str]:
    """Which correlations with the gap exclude 0, and which claimed signs hold."""
    total, strongest, level = facts["measures"], facts["strongest"], facts["level"]
    if not total or not facts["gap"]["n"]:
        return
    words = f"single {level:.0%} interval"
    if not strongest:
        yield f"No measure's tau has a {words} that excludes 0: this study does not show that any tracks the gap."
    else:
        strongest_named = listed(
            [f"{names_of(facts, [row['measure']])} {interval_text(row)}" for row in strongest[:MOST]]
        )
        most = "strongest first" if len(strongest) <= MOST else f"the {MOST} strongest"
        yield (
            f"For {len(strongest)} of {count(total, 'measure column')} the {words} of tau over all models excludes"
            f" 0; {most}: {strongest_named}."
        )
        yield (
            "Each of these single intervals is about its own measure and is not corrected for the number of "
            f"measures looked at: of {total} measures unrelated to the gap, about {(1 - level) * total:.1f} would be "
            "expected to exclude 0 by chance."
        )
    if facts["undefined_tau"]:
        yield f"Tau is undefined (constant, or no values) for {names_of(facts, facts['undefined_tau'])}."
    claims = facts["claims"]
    if claims["declared"]:
        undecided = claims["declared"] - len(claims["yes"]) - len(claims["no"])
        against = f" ({names_of(facts, claims['no'])})" if claims["no"] else ""
        yield (
            f"The literature claims a sign for {count(claims['declared'], 'column')}: the single interval of tau "
            f"lies on the claimed side for {len(claims['yes'])}, on the opposite side for "
            f"{len(claims['no'])}{against}, and settles nothing for {undecided}."
        )


def about_settings(facts: dict[str, Any]) -> Iterator[str]:
    """Which strong correlations persist when one setting varies and all others are held fixed."""
    if not facts["axes"]:
        return
    nowhere = [row["measure"] for row in facts["strongest"] if not row["psi"]["same"]]
    if nowhere:
        yield (
            f"For {names_of(facts, nowhere)} no axis has a psi whose single interval lies on the side of tau: with all"
            " settings but one and the seed held fixed, this study does not show the correlation. It may come from the"
            " settings rather than from what the measure sees (or the cells are too few to tell)."
        )
    everywhere = [row["measure"] for row in facts["strongest"] if set(row["psi"]["same"]) == set(facts["axes"])]
    if everywhere:
        yield (
            f"For {names_of(facts, everywhere)} psi lies on the side of tau, its single interval clear of 0, for every"
            " axis."
        )
    for row in facts["strongest"]:
        if row["psi"]["opposite"]:
            yield (
                f"{names_of(facts, [row['measure']])}: tau is {interval_text(row)}, but psi lies on the other side of 0"
                f" for {listed(row['psi']['opposite'])} (single 95% intervals)."
            )
    if cells := facts["psi_cells"]["undefined"]:
        total = cells + facts["psi_cells"]["defined"]
        yield f"Of {total:,} psi cells (all axes and measures), {cells:,} are undefined and left out of the means."


def about_values(facts: dict[str, Any]) -> Iterator[str]:
    """Measures that work for one value of an axis and fail for another, according to their verdicts."""
    for row in facts["sign_changes"]:
        yield (
            f"{names_of(facts, [row['measure']])}: the sign of its relation with the gap depends on {row['axis']}."
            f" {row['reason']}"
        )
    if not facts["sign_changes"] and facts["measures"] and facts["axes"] and facts["strongest"]:
        yield (
            "For no measure does the verdict say that its sign depends on a setting: nowhere do two values of one have"
            " pi on opposite sides of 0, by family-wise intervals, which hold for all measures together."
        )


def about_checks(facts: dict[str, Any]) -> Iterator[str]:
    """Whether tau changes on other images or other models, and which values are missing."""
    without = facts["without"].items()
    cases = [(change, f"without the {count(change['models'], 'model')} {flag_words(flag)}") for flag, change in without]
    for change, condition in [
        *cases,
        (facts["rest"], "with the gap on the training images that no measure was given"),
    ]:
        if change is None or change["largest_difference"] is None:
            continue
        unchanged = (
            "; each single interval that excludes 0 still does so on the same side" if facts["strongest"] else ""
        )
        lost = names_of(facts, change["lost"])
        effect = f"; the single interval is no longer on the same side of 0 for {lost}" if lost else unchanged
        yield f"Computed {condition}, tau changes by at most {change['largest_difference']:.2f}{effect}."
    if facts["missing"]:
        missing = listed([f"{names_of(facts, [name])} ({lost:,})" for name, lost in facts["missing"].items()])
        yield f"Values are missing, each with its reason in the tables, for {missing}; those models are left out there."


def about_beside(facts: dict[str, Any]) -> Iterator[str]:
    """Baselines, comparisons of the best measure, groups of measures, and the study's self-check."""
    if facts["gap"]["n"]:
        yield from beside_sentences(facts["beside"], lambda column: names_of(facts, [column]))


def sentences(facts: dict[str, Any]) -> list[str]:
    """The findings of a study as sentences. facts: the dictionary of `analysis.findings.numbers.find` (or
    findings.json)."""
    parts = [about_models, about_gap, about_noise, about_strength, about_beside, about_settings, about_values]
    return [sentence for about in (*parts, about_checks) for sentence in about(facts)]
