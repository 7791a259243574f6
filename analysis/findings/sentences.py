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
from robustgap.analysis.labels import measure_label, minus
from robustgap.analysis.ledger import attack_of
from robustgap.analysis.models.flags import flag_words
from robustgap.analysis.words import ATTACKS, CEILINGS, COMPONENTS

MOST = 5  # items listed individually in a sentence


def count(number: int, word: str) -> str:
    """'1 model', '2 models'."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def listed(words: list[str], most: int = MOST) -> str:
    """'a, b and c'; beyond `most`, 'a, b and 7 others'."""
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} others"]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def names_of(found: dict[str, Any], columns: Iterable[str]) -> str:
    """Measure columns as a list, labelled as in figures."""
    return listed([measure_label(column, found["columns"]) for column in columns])


def percent(share: float) -> str:
    """'12%', or 'under 1%'."""
    return f"{share:.0%}" if share >= 0.005 else "under 1%"


def outcome_words(outcome: str) -> str:
    """'gap_pgd10' -> 'PGD-10 generalization gap'."""
    attack = attack_of(outcome)
    rest = " (training images that no measure saw)" if outcome.endswith("_rest") else ""
    return f"{ATTACKS.get(attack, attack)} generalization gap{rest}"


def about_models(found: dict[str, Any]) -> Iterator[str]:
    """Which models were analysed, and which were not."""
    sample = found["sample"]
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


def about_gap(found: dict[str, Any]) -> Iterator[str]:
    """Size of the outcome, relative to the sampling error of its images."""
    gap = found["gap"]
    if not gap["n"]:
        yield f"No model has a {outcome_words(found['outcome'])}; nothing can be said about measures."
        return
    low, middle, high = (minus(f"{gap[name]:.1f}") for name in ("min", "median", "max"))
    yield (
        f"The {outcome_words(found['outcome'])} runs from {low} to {high} percentage points, with a median of {middle}."
    )
    if gap["adversarially_trained"]:
        yield (
            f"Of {count(gap['adversarially_trained'], 'adversarially trained model')}, {gap['above_2_se']:,}"
            f" ({gap['share_above_2_se']:.0%}) have a gap above 2 of its standard errors (image sampling only)."
        )


def about_noise(found: dict[str, Any]) -> Iterator[str]:
    """Components of the outcome's variance, and the resulting noise ceilings of tau."""
    share, ceiling = found["noise"]["share"], found["noise"]["ceiling"]
    if known := {name: words for name, (words, _) in COMPONENTS.items() if name in share}:
        parts = listed([f"{percent(share[name]['estimate'])} {words}" for name, words in known.items()], len(known))
        yield f"What sets the gaps of the models apart (estimated shares of their variance): {parts}."
    reached = [f"{interval_text(ceiling[name])} {words}" for name, (words, _) in CEILINGS.items() if name in ceiling]
    if reached:
        yield f"Noise bounds tau: the largest to be expected is {listed(reached)} (single 95% intervals)."
    if (share or ceiling) and not found["noise"]["shared_images"]:
        yield (
            "For this the image noise of different models was taken to be independent, as their answers to single"
            " images are not at hand; models judged on the same images share some of it, so the bound may be too low."
        )


def about_strength(found: dict[str, Any]) -> Iterator[str]:
    """Which correlations with the gap exclude 0, and which claimed signs hold."""
    many, strongest, level = found["measures"], found["strongest"], found["level"]
    if not many or not found["gap"]["n"]:
        return
    words = f"single {level:.0%} interval"
    if not strongest:
        yield f"No measure's tau has a {words} that excludes 0: this study does not show that any tracks the gap."
    else:
        named = listed([f"{names_of(found, [one['measure']])} {interval_text(one)}" for one in strongest[:MOST]])
        most = "strongest first" if len(strongest) <= MOST else f"the {MOST} strongest"
        yield (
            f"For {len(strongest)} of {count(many, 'measure column')} the {words} of tau over all models excludes"
            f" 0; {most}: {named}."
        )
        yield (
            "Each of these single intervals is about its own measure and is not corrected for the number of "
            f"measures looked at: of {many} measures unrelated to the gap, about {(1 - level) * many:.1f} would be "
            "expected to exclude 0 by chance."
        )
    if found["undefined_tau"]:
        yield f"Tau is undefined (constant, or no values) for {names_of(found, found['undefined_tau'])}."
    claims = found["claims"]
    if claims["declared"]:
        left = claims["declared"] - len(claims["yes"]) - len(claims["no"])
        against = f" ({names_of(found, claims['no'])})" if claims["no"] else ""
        yield (
            f"The literature claims a sign for {count(claims['declared'], 'column')}: the single interval of tau "
            f"lies on the claimed side for {len(claims['yes'])}, on the opposite side for "
            f"{len(claims['no'])}{against}, and settles nothing for {left}."
        )


def about_settings(found: dict[str, Any]) -> Iterator[str]:
    """Which strong correlations persist when one setting varies and all others are held fixed."""
    if not found["axes"]:
        return
    nowhere = [one["measure"] for one in found["strongest"] if not one["psi"]["same"]]
    if nowhere:
        yield (
            f"For {names_of(found, nowhere)} no axis has a psi whose single interval lies on the side of tau: with all"
            " settings but one and the seed held fixed, this study does not show the correlation. It may come from the"
            " settings rather than from what the measure sees (or the cells are too few to tell)."
        )
    everywhere = [one["measure"] for one in found["strongest"] if set(one["psi"]["same"]) == set(found["axes"])]
    if everywhere:
        yield (
            f"For {names_of(found, everywhere)} psi lies on the side of tau, its single interval clear of 0, for every"
            " axis."
        )
    for one in found["strongest"]:
        if one["psi"]["opposite"]:
            yield (
                f"{names_of(found, [one['measure']])}: tau is {interval_text(one)}, but psi lies on the other side of 0"
                f" for {listed(one['psi']['opposite'])} (single 95% intervals)."
            )
    if cells := found["psi_cells"]["undefined"]:
        total = cells + found["psi_cells"]["defined"]
        yield f"Of {total:,} psi cells (all axes and measures), {cells:,} are undefined and left out of the means."


def about_values(found: dict[str, Any]) -> Iterator[str]:
    """Measures that work for one value of an axis and fail for another, according to their verdicts."""
    for one in found["sign_changes"]:
        yield (
            f"{names_of(found, [one['measure']])}: the sign of its relation with the gap depends on {one['axis']}."
            f" {one['reason']}"
        )
    if not found["sign_changes"] and found["measures"] and found["axes"] and found["strongest"]:
        yield (
            "For no measure does the verdict say that its sign depends on a setting: nowhere do two values of one have"
            " pi on opposite sides of 0, by family-wise intervals, which hold for all measures together."
        )


def about_checks(found: dict[str, Any]) -> Iterator[str]:
    """Whether tau changes on other images or other models, and which values are missing."""
    without = found["without"].items()
    parts = [(one, f"without the {count(one['models'], 'model')} {flag_words(flag)}") for flag, one in without]
    for one, condition in [*parts, (found["rest"], "with the gap on the training images that no measure was given")]:
        if one is None or one["largest_difference"] is None:
            continue
        kept = "; each single interval that excludes 0 still does so on the same side" if found["strongest"] else ""
        lost = names_of(found, one["lost"])
        told = f"; the single interval is no longer on the same side of 0 for {lost}" if lost else kept
        yield f"Computed {condition}, tau changes by at most {one['largest_difference']:.2f}{told}."
    if found["missing"]:
        named = listed([f"{names_of(found, [name])} ({lost:,})" for name, lost in found["missing"].items()])
        yield f"Values are missing, each with its reason in the tables, for {named}; those models are left out there."


def about_beside(found: dict[str, Any]) -> Iterator[str]:
    """Baselines, comparisons of the best measure, groups of measures, and the study's self-check."""
    if found["gap"]["n"]:
        yield from beside_sentences(found["beside"], lambda column: names_of(found, [column]))


def sentences(found: dict[str, Any]) -> list[str]:
    """The findings of a study as sentences. found: the dictionary of `analysis.findings.numbers.find` (or
    findings.json)."""
    parts = [about_models, about_gap, about_noise, about_strength, about_beside, about_settings, about_values]
    return [sentence for part in (*parts, about_checks) for sentence in part(found)]
