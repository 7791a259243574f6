"""Computes outcomes: which frozen images a model classifies correctly, clean and under each attack. Always in eval mode
and on original images; never taken from a training log.

For each model of a chunk and each outcome, on frozen training and test images: one bit per image, accuracy p and its
standard error sqrt(p (1 - p) / n), from image sampling only, losses and confidences. Split `train_rest` holds the
frozen training images that no measure sees. The adversarial examples given to measures are made from training images,
once, and kept.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robustgap.training.checkpoint import FileFault, load_tensors, save_tensors
from robustgap.training.data.splits import Split, Splits
from robustgap.training.facts import ATTACK_FACTS
from robustgap.training.jobs.damage import rerun_if_damaged
from robustgap.training.jobs.device import device_of
from robustgap.training.jobs.frozen_images import (
    ATTACKED,
    cache_file,
    first,
    frozen_images,
    outcome_file,
    outcome_images,
)
from robustgap.training.jobs.judging import judged_parts
from robustgap.training.jobs.outcome_id import Outcome, base_outcomes, of_entry
from robustgap.training.jobs.outcome_table import accuracies_text, failed_row, outcome_rows, write_outcomes
from robustgap.training.jobs.plan import collapsed, load_planned_model, splits_of
from robustgap.training.jobs.provenance import made_by
from robustgap.training.masking import ENOUGH, gradient_masking
from robustgap.training.outcome_attacks import SEED
from robustgap.training.outcome_attacks.transfer import Ensemble, Source
from robustgap.training.settings import Plan, StudyFile, TableRow, number

SourceOf = Callable[[list[str]], Source]  # of transferred examples, from the ids of models


class Outcomes(NamedTuple):
    """A model under some outcomes.

    tensors     packed bits `SPLIT.ID` (uint8); `adversarial` (m, c, h, w), under the attack given to measures
    outcomes    their entries (`Outcome.as_entry`), parts of an attack before the attack
    numbers     of `SPLIT.ID`: seconds, and those of `Judged.summary`; of train, train_rest and test
    signs       why not to trust the attack, by id; of ATTACKED: evidence for gradient masking
    """

    tensors: dict[str, Tensor]
    outcomes: list[dict[str, Any]]
    numbers: dict[str, dict[str, float]]
    signs: dict[str, str]


def evaluate_model(
    model: nn.Module,
    splits: Splits,
    study: StudyFile,
    outcomes: list[Outcome],
    state: Path | None = None,
    source: SourceOf | None = None,
) -> Outcomes:
    """A model under each outcome. state: folder in which attacks that can may save what they have finished."""
    evaluated = Outcomes({}, [], {}, {})
    for outcome in outcomes:
        train, test, m = outcome_images(study, outcome)
        facts, entries = ATTACK_FACTS[outcome.attack], {}
        base = outcome.id == ATTACKED
        for name, split in (("train", train), ("test", test)):
            options: dict[str, Any] = {
                "eps": number(outcome.eps),
                "norm": outcome.norm,
                "batch": int(study["outcomes"]["batch_size"]),
                "keep": m if base and name == "train" else 0,
                "extra": extra_arguments(outcome, state / name if state else None, source),
            }
            images = splits.floats(split.images)
            for part in judged_parts(model, images, split.labels, split.index, attack=outcome.attack, **options):
                of_part = outcome.part(facts.parts, part.value) if part.value else outcome
                entries[of_part.id] = of_part.as_entry()
                key, target = f"{name}.{of_part.id}", int(of_part.target) if of_part.target.isdecimal() else None
                evaluated.tensors[key] = torch.from_numpy(np.packbits(part.judged.correct.numpy()))
                seconds = {"seconds": round(part.seconds, 4)}
                evaluated.numbers[key] = seconds | part.judged.summary(split.labels, target)
                if name == "train":
                    rest = part.judged.part(slice(m, None)).summary(split.labels[m:], target)
                    evaluated.numbers[f"train_rest.{of_part.id}"] = {"seconds": 0.0} | rest
                if len(part.adversarial):
                    evaluated.tensors["adversarial"] = part.adversarial
        evaluated.outcomes.extend(entries.values())
        if base:
            evaluated.signs[outcome.id] = masking_evidence(model, study, evaluated.tensors["adversarial"])
        elif facts.signs and number(outcome.eps):
            evaluated.signs[outcome.id] = attack_signs(model, splits, first(train, ENOUGH), outcome)
    return evaluated


def extra_arguments(outcome: Outcome, state: Path | None, source: SourceOf | None) -> dict[str, Any]:
    """What an attack takes besides a threat model, by its facts: a target, options, a folder for its state."""
    facts = ATTACK_FACTS[outcome.attack]
    arguments: dict[str, Any] = {name: values[0] for name, values in facts.options.items() if values}
    arguments |= dict(outcome.options)
    arguments |= {"target": outcome.target} if facts.targets else {}
    arguments |= {"state": state} if facts.stateful else {}
    return arguments | ({"source": source(outcome.sources)} if source and outcome.sources else {})


def attack_signs(model: nn.Module, splits: Splits, train: Split, outcome: Outcome) -> str:
    """What an attack says against itself on training images; '' for nothing."""
    module, device = import_module(ATTACK_FACTS[outcome.attack].module), device_of(model)
    inputs = (tensor.to(device) for tensor in (splits.floats(train.images), train.labels, train.index))
    signs: str = module.signs(model, *inputs, number(outcome.eps), outcome.norm)
    return signs


def masking_evidence(model: nn.Module, study: StudyFile, adversarial: Tensor) -> str:
    """Evidence for gradient masking of a model, from training images and their adversarial examples; '' if there is
    none."""
    train, _, m = frozen_images(study)
    count, device = min(m, ENOUGH), device_of(model)
    images = splits_of(study).floats(train.images[:count])
    inputs = [images, train.labels[:count], train.index[:count], adversarial[:count]]
    options = {"eps": number(study["eps"]), "norm": study["norm"], "batch": int(study["outcomes"]["batch_size"])}
    return gradient_masking(model, *(tensor.to(device) for tensor in inputs), seed=SEED, **options).evidence


def stored_outcomes(
    plan: Plan,
    model_id: str,
    file: Path,
    outcomes: list[Outcome],
    model: Callable[[], nn.Module],
    source: SourceOf | None = None,
) -> Outcomes:
    """`evaluate_model`, from the cache `file` if it is intact; a damaged one is reported on stderr and rebuilt."""
    if file.exists():
        try:
            tensors, metadata = load_tensors(file)
            if "numbers" in metadata:  # missing in caches of older versions, which are rebuilt
                return Outcomes(tensors, *(json.loads(metadata[key]) for key in ("outcomes", "numbers", "signs")))
        except FileFault as error:
            print(f"{error}: outcomes of {model_id} are made again", file=sys.stderr)
    loaded, state = model(), file.with_suffix(".part")
    evaluated = evaluate_model(loaded, splits_of(plan["study"]), plan["study"], outcomes, state, source)
    texts = {key: json.dumps(value) for key, value in evaluated._asdict().items() if key != "tensors"}
    device = device_of(loaded)
    origin = {"seed": str(SEED), "device": str(device), "made_by": json.dumps(made_by(device))}
    save_tensors(file, evaluated.tensors, model=model_id, **texts, **origin)
    shutil.rmtree(state, ignore_errors=True)
    return evaluated


def model_outcomes(
    plan: Plan,
    results: Path,
    model_id: str,
    device: torch.device | str,
    group: str = "",
    source: SourceOf | None = None,
) -> Iterator[Outcomes]:
    """The outcomes of a group of a planned model, each from its cache if there is one; of no group: those that all
    models need. Raises what `load_planned_model` raises."""
    loaded: list[nn.Module] = []

    def model() -> nn.Module:
        loaded[:] = loaded or [load_planned_model(plan, results, model_id, device)]
        return loaded[0]

    if not group:
        file = cache_file(plan, results, model_id)
        yield stored_outcomes(plan, model_id, file, base_outcomes(plan["study"]), model)
        return
    checkpoint = plan["models"][model_id].get("checkpoint", "")
    for entry in plan["outcomes"][group]:
        outcome = of_entry(entry, plan["study"])
        if not outcome.checkpoints or checkpoint in ("", *outcome.checkpoints):
            file = outcome_file(plan, results, model_id, outcome)
            yield stored_outcomes(plan, model_id, file, [outcome], model, source)


def sources(plan: Plan, results: Path, device: torch.device | str) -> SourceOf:
    """Sources of transferred examples among the models of a plan; each is loaded once. Raises ValueError for a source
    that collapsed, and what `load_planned_model` raises."""

    def model(name: str) -> nn.Module:
        with rerun_if_damaged(plan, results, name):
            if collapsed(plan, results, name):
                raise ValueError(f"outcomes: transfer from {name}: its run collapsed, wanted another model")
            return load_planned_model(plan, results, name, device)

    @cache
    def loaded(names: tuple[str, ...]) -> Source:
        models = [model(name) for name in names]
        return Source(models[0] if len(models) == 1 else Ensemble(models).eval())

    return lambda names: loaded(tuple(names))


def evaluate_chunk(
    plan: Plan, chunk: str, results: Path, out: Path, device: torch.device | str, group: str = ""
) -> None:
    """Evaluate the models of a chunk under a group of outcomes ('': those that all models need) and write `out`. Models
    of collapsed runs are left out; a foreign model that does not load gets a row with the reason. Results are cached
    per model and outcome, so a killed job resumes.

    Raises LookupError for an unknown chunk or group; FileFault if a run's record or weights are missing or damaged (the
    manifest of its training is then removed), and for a file of the data set; what `frozen_images` raises.
    """
    models = {name: entry for name, entry in plan["models"].items() if entry["chunk"] == chunk}
    if not models:
        raise LookupError(f"chunk {chunk!r} is not in the plan of study {plan['study']['study']}")
    if group and group not in plan["outcomes"]:
        known = ", ".join(plan["outcomes"]) or "none"
        raise LookupError(f"outcomes {group!r} are not in the plan of study {plan['study']['study']}; known: {known}")
    frozen_images(plan["study"])  # so that a fault of the data set is not reported as one of a model
    source = sources(plan, results, device)
    for entry in plan["outcomes"][group] if group else ():  # nor one of a source
        if names := of_entry(entry, plan["study"]).sources:
            source(names)
    table: list[TableRow] = []
    began = time.perf_counter()
    for position, (model_id, entry) in enumerate(models.items(), start=1):
        try:
            with rerun_if_damaged(plan, results, model_id):
                if collapsed(plan, results, model_id):
                    rows, result = [], "its run collapsed, no outcomes"
                else:
                    made = model_outcomes(plan, results, model_id, device, group, source)
                    rows = [row for outcomes in made for row in outcome_rows(plan, model_id, *outcomes)]
                    result = accuracies_text(rows)
        except (ValueError, LookupError, OSError) as error:
            if entry["source"] == "grid":
                raise
            rows, result = [failed_row(model_id, str(error))], f"not evaluated: {error}"
        table += rows
        spent = time.perf_counter() - began
        left = spent / position * (len(models) - position)
        print(
            f"model {position} of {len(models)}: {model_id} {result}; {spent:.1f} s, about {left:.0f} s left",
            file=sys.stderr,
        )
    write_outcomes(out, table)
