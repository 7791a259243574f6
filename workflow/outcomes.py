"""Reads the entries of `outcomes.attacks` of a study file."""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from robustgap.training.facts import ATTACK_FACTS, DATA_SET_FACTS, AttackFacts
from robustgap.training.jobs.outcome_id import BASE, Outcome
from robustgap.training.settings import StudyFile, exact, number
from robustgap.workflow.names import nearest

ID = re.compile(
    r"(?P<attack>\w+)(@(?P<norm>\w+):(?P<eps>[^@>+]+))?(>(?P<target>\w+))?(?P<options>(\+\w+=[^+]+)*)", re.ASCII
)
FORM = "ATTACK[@NORM:EPS][>TARGET][+OPTION=VALUE]"
LOGGED = ("train_loss", "clean_val", "pgd10_val")  # columns of models from training logs, which may be explained too


class OutcomeError(ValueError):
    """An entry of `outcomes.attacks` that names no outcome; the message starts with the key at fault, if any."""


def outcomes_of(entry: str | Mapping[str, Any], study: StudyFile) -> Iterator[Outcome]:
    """The outcomes of an entry of `outcomes.attacks`: one id, or keys and values, of which eps, target and each option
    may be lists. Raises OutcomeError."""
    keys = parsed(entry) if isinstance(entry, str) else dict(entry)
    attack = keys["attack"]
    if attack not in ATTACK_FACTS:
        hint = nearest(attack, list(ATTACK_FACTS))
        raise OutcomeError(f"attack: found {attack!r}, wanted one of {', '.join(ATTACK_FACTS)}{hint}")
    facts = ATTACK_FACTS[attack]
    limits = image_limits(keys.get("images"))
    limits["checkpoints"] = tuple(keys.get("checkpoints", ()))
    norm = keys.get("norm", study["norm"] if study["norm"] in facts.norms else facts.norms[0])
    if norm not in facts.norms:
        raise OutcomeError(f"norm: found {norm!r}, wanted {' or '.join(facts.norms)} for {attack}")
    if "eps" not in keys and norm != study["norm"]:
        raise OutcomeError(f"eps: missing, wanted with the norm {norm}, which is not the study's")
    options = {name: listed(values) for name, values in keys.get("options", {}).items()}
    for name in [name for name, values in options.items() if not values]:
        raise OutcomeError(f"options.{name}: found nothing, wanted at least one value")
    for values in itertools.product(
        listed(keys.get("eps", study["eps"])), listed(keys.get("target", "")), *options.values()
    ):
        eps, target, *chosen = map(str, values)
        yield Outcome(
            attack,
            norm,
            radius(eps, norm),
            checked_target(target, attack, facts),
            checked_options(dict(zip(options, chosen, strict=True)), attack, facts),
            threat=(study["norm"], study["eps"]),
            **limits,
        )


def parsed(text: str) -> dict[str, Any]:
    """An id as keys and values. Raises OutcomeError."""
    match = ID.fullmatch(text)
    if not match:
        raise OutcomeError(f"found {text!r}, wanted {FORM}")
    pairs = [pair.partition("=")[::2] for pair in match["options"].split("+")[1:]]
    keys = {key: match[key] for key in ("attack", "norm", "eps", "target") if match[key]}
    return {**keys, "options": dict(pairs)}


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def image_limits(images: Any) -> dict[str, Any]:
    """Limits from `images`: one number for both splits, or one by split."""
    by_split = images if isinstance(images, dict) else dict.fromkeys(("train", "test"), images)
    limits = {f"{split}_images": by_split.get(split) for split in ("train", "test")}
    return {name: None if count is None else int(count) for name, count in limits.items()}  # JSON Schema accepts 3.0


def radius(eps: str, norm: str) -> str:
    """eps as an exact fraction. Raises OutcomeError."""
    try:
        fraction = exact(eps)
    except ValueError as error:
        raise OutcomeError(str(error)) from error
    if norm == "Linf" and number(fraction) > 1:
        raise OutcomeError(f"eps: found {eps}, wanted at most 1, the range of an image")
    if norm == "severity" and fraction not in list("012345"):
        raise OutcomeError(f"eps: found {eps}, wanted a severity from 0 to 5")
    return fraction


def checked_target(target: str, attack: str, facts: AttackFacts) -> str:
    if target and not facts.targets:
        raise OutcomeError(f"target: found {target!r}, but {attack} has none")
    if facts.targets and not (target in facts.targets or target.isdecimal()):
        raise OutcomeError(f"target: found {target!r}, wanted the number of a class, or {' or '.join(facts.targets)}")
    return target


def checked_options(options: dict[str, str], attack: str, facts: AttackFacts) -> tuple[tuple[str, str], ...]:
    """Options that differ from their default, by name. Raises OutcomeError."""
    for name, value in options.items():
        if name not in facts.options:
            hint = nearest(name, facts.options) or f"; known: {', '.join(facts.options) or 'none'}"
            raise OutcomeError(f"options.{name}: {attack} has no such option{hint}")
        if facts.options[name] and value not in (allowed := facts.options[name]):
            raise OutcomeError(f"options.{name}: found {value!r}, wanted one of {', '.join(allowed)}")
    for name in [name for name, values in facts.options.items() if not values and not options.get(name)]:
        raise OutcomeError(f"options.{name}: missing, {attack} needs it")
    return tuple(sorted((k, v) for k, v in options.items() if v not in facts.options[k][:1]))


def study_outcomes(study: StudyFile) -> list[Outcome]:
    """All outcomes of a study in its order. Raises OutcomeError, its message starting with the field at fault."""
    outcomes: dict[str, Outcome] = {}
    for position, entry in enumerate(study["outcomes"]["attacks"]):
        field = f"outcomes.attacks[{position}]"
        try:
            for outcome in outcomes_of(entry, study):
                check_limits(outcome, study)
                if outcome.id in outcomes:
                    raise OutcomeError(f"found {outcome.id!r} twice, wanted distinct outcomes")
                outcomes[outcome.id] = outcome
        except OutcomeError as error:
            joint = "." if re.match(r"[\w.]+: ", str(error)) else ": "
            raise OutcomeError(f"{field}{joint}{error}") from error
    return list(outcomes.values())


def check_limits(outcome: Outcome, study: StudyFile) -> None:
    """Raise OutcomeError if an outcome has a target that the data set lacks, more images or other checkpoints than the
    study, or limits although all models need it."""
    facts, limits = DATA_SET_FACTS[study["data"]], study["outcomes"]
    if outcome.target.isdecimal() and int(outcome.target) >= facts.classes:
        raise OutcomeError(f"target: found {outcome.target}, wanted a class from 0 to {facts.classes - 1}")
    if facts.classes < ATTACK_FACTS[outcome.attack].classes:
        least = ATTACK_FACTS[outcome.attack].classes
        raise OutcomeError(f"attack: found {outcome.attack!r} with {facts.classes} classes, wanted at least {least}")
    for split, images in (("train", outcome.train_images), ("test", outcome.test_images)):
        most = limits.get(f"{split}_images", getattr(facts, split))
        if images is not None and images > most:
            raise OutcomeError(f"images: found {images}, wanted at most {most}, the study's {split} images")
    for checkpoint in outcome.checkpoints:
        if checkpoint not in study["checkpoints"]:
            wanted = " or ".join(study["checkpoints"])
            raise OutcomeError(f"checkpoints: found {checkpoint!r}, wanted {wanted}, the study's")
    if outcome.id in BASE and (outcome.train_images or outcome.test_images or outcome.checkpoints):
        key = "checkpoints" if outcome.checkpoints else "images"
        raise OutcomeError(f"{key}: found with {outcome.id}, wanted all: the gap and the measures need it")


def outcome_plan(study: StudyFile, models: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """{group: its outcomes} for plan.json, without those that all models need. Raises OutcomeError if the source of
    transferred examples is not among the study's models."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for outcome in study_outcomes(study):
        for source in set(outcome.sources) - set(models):
            hint = nearest(source, models) or f"; the first: {min(models)}"
            raise OutcomeError(f"outcomes.attacks: {outcome.id}: found no model {source!r} in the study{hint}")
        if outcome.id not in BASE:
            groups.setdefault(outcome.group, []).append(outcome.as_entry())
    return groups


def outcome_columns(ids: list[str]) -> list[str]:
    """What `analysis.outcome` may be, by the ids of a study's outcomes: gap:ID (or gap_ID), train:ID and test:ID (or
    ID_train and ID_test: accuracies), gap_ID_rest (with the training images that no measure sees), loss_ID_train and
    loss_ID_test."""
    patterns = ("gap_{}", "gap:{}", "gap_{}_rest", "train:{}", "test:{}", "{}_train", "{}_test")
    losses = ("loss_{}_train", "loss_{}_test")
    return [pattern.format(name) for name in ids for pattern in (*patterns, *losses)]
