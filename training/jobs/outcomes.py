"""Computes outcomes: which frozen images a model classifies correctly, clean and under each attack. Always in eval mode
and on original images; never taken from a training log.

For each model of a chunk and each attack, on frozen training and test images: one bit per image, accuracy p and its
standard error sqrt(p (1 - p) / n), from image sampling only. Split `train_rest` holds the frozen training images that
no measure sees. The adversarial examples given to measures are made from training images, once, and kept.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robustgap.training import attacks
from robustgap.training.checkpoint import FileFault, load_tensors, save_tensors
from robustgap.training.data.splits import Splits
from robustgap.training.facts import ATTACK_FACTS
from robustgap.training.jobs.damage import rerun_if_damaged
from robustgap.training.jobs.frozen_images import ATTACKED, cache_file, frozen_images
from robustgap.training.jobs.outcome_table import accuracies_text, failed_row, outcome_rows, write_outcomes
from robustgap.training.jobs.plan import collapsed, load_planned_model, splits_of
from robustgap.training.jobs.provenance import made_by
from robustgap.training.masking import ENOUGH, gradient_masking
from robustgap.training.modes import frozen, full_precision
from robustgap.training.registry import Plugins
from robustgap.training.settings import Plan, StudyFile, number

# f(model, x, y, index, eps, norm) -> x_adv, named as in study.outcomes.attacks
OUTCOME_ATTACKS = Plugins("outcome attack", ATTACK_FACTS)
SEED = 0  # of the attacks' random starts: the same for all models, whatever their training seed


@OUTCOME_ATTACKS.register("clean")
def no_attack(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """No attack."""
    x_adv: Tensor = attacks.clean(model, x, y, eps=eps)
    return x_adv


@OUTCOME_ATTACKS.register("fgsm")
def one_step(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """One step of size eps from the image itself."""
    x_adv: Tensor = attacks.fgsm(model, x, y, eps=eps, norm=norm)
    return x_adv


@OUTCOME_ATTACKS.register("pgd10")
def ten_steps(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """10 steps of eps/4 from a uniform start in the ball, keyed by (SEED, image index)."""
    noise = attacks.start(x, index, seed=SEED, eps=eps, norm=norm, stream=attacks.EVALUATION_START)
    x_adv: Tensor = attacks.pgd(model, x, y, eps=eps, noise=noise, norm=norm, steps=ATTACK_FACTS["pgd10"].steps)
    return x_adv


def attacked(
    model: nn.Module, images: Tensor, labels: Tensor, index: Tensor, *, attack: str, eps: float, norm: str, batch: int
) -> tuple[Tensor, Tensor]:
    """Correctness (n,) bool and adversarial images (n, c, h, w) of float images in [0, 1], in batches of `batch`.

    An image with non-finite logits counts as wrong. Raises LookupError for an unknown attack, ValueError for images
    outside [0, 1] or a model not in eval mode.
    """
    if any(module.training for module in model.modules()):
        raise ValueError("model: found train mode, wanted eval mode for every outcome")
    device = next((p.device for p in model.parameters()), images.device)
    correct, adversarial = [], []
    with frozen(model), full_precision():
        for rows in torch.split(torch.arange(len(labels)), batch):
            x, y, ids = (tensor[rows].to(device) for tensor in (images, labels, index))
            x_adv = OUTCOME_ATTACKS[attack](model, x, y, ids, eps, norm)
            with torch.no_grad():
                logits = model(x_adv)
            correct.append(((logits.argmax(1) == y) & torch.isfinite(logits).all(1)).cpu())
            adversarial.append(x_adv.cpu())
    return torch.cat(correct), torch.cat(adversarial)


def evaluate_model(model: nn.Module, splits: Splits, study: StudyFile) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Packed bits `SPLIT.ATTACK` (uint8) and `adversarial` (m, c, h, w) of a model; seconds by `SPLIT.ATTACK`."""
    train, test, m = frozen_images(study)
    options = {"eps": number(study["eps"]), "norm": study["norm"], "batch": int(study["outcomes"]["batch_size"])}
    tensors, seconds = {}, {}
    for name, split in (("train", train), ("test", test)):
        images = splits.floats(split.images)
        for attack in study["outcomes"]["attacks"]:
            began = time.perf_counter()
            correct, adversarial = attacked(model, images, split.labels, split.index, attack=attack, **options)
            tensors[f"{name}.{attack}"] = torch.from_numpy(np.packbits(correct.numpy()))
            seconds[f"{name}.{attack}"] = round(time.perf_counter() - began, 4)
            if (name, attack) == ("train", ATTACKED):
                tensors["adversarial"] = adversarial[:m].clone()
    return tensors, seconds


def masking_evidence(model: nn.Module, study: StudyFile, adversarial: Tensor) -> str:
    """Evidence for gradient masking of a model, from training images and their adversarial examples; '' if there is
    none."""
    train, _, m = frozen_images(study)
    count = min(m, ENOUGH)
    device = next((p.device for p in model.parameters()), adversarial.device)
    images = splits_of(study).floats(train.images[:count])
    inputs = [images, train.labels[:count], train.index[:count], adversarial[:count]]
    options = {"eps": number(study["eps"]), "norm": study["norm"], "batch": int(study["outcomes"]["batch_size"])}
    return gradient_masking(model, *(tensor.to(device) for tensor in inputs), seed=SEED, **options).evidence


def model_outcomes(
    plan: Plan, results: Path, model_id: str, device: torch.device | str
) -> tuple[dict[str, Tensor], dict[str, float], str]:
    """`evaluate_model` and `masking_evidence` of a planned model, from its cache if intact; a damaged cache is reported
    on stderr and rebuilt. Raises what `load_planned_model` raises."""
    file = cache_file(plan, results, model_id)
    if file.exists():
        try:
            tensors, metadata = load_tensors(file)
            if "masking" in metadata:  # missing in caches of older versions, which are rebuilt
                return tensors, json.loads(metadata["seconds"]), metadata["masking"]
        except FileFault as error:
            print(f"{error}: outcomes of {model_id} are made again", file=sys.stderr)
    model = load_planned_model(plan, results, model_id, device)
    tensors, seconds = evaluate_model(model, splits_of(plan["study"]), plan["study"])
    masked = masking_evidence(model, plan["study"], tensors["adversarial"])
    save_tensors(
        file,
        tensors,
        model=model_id,
        seconds=json.dumps(seconds),
        masking=masked,
        seed=str(SEED),
        device=str(device),
        made_by=json.dumps(made_by(torch.device(device))),
    )
    return tensors, seconds, masked


def evaluate_chunk(plan: Plan, chunk: str, results: Path, out: Path, device: torch.device | str) -> None:
    """Evaluate the models of a chunk and write `out`. Models of collapsed runs are left out; a foreign model that does
    not load gets a row with the reason. Results are cached per model, so a killed job resumes.

    Raises LookupError for an unknown chunk; FileFault if a run's record or weights are missing or damaged (the manifest
    of its training is then removed), and for a file of the data set; what `frozen_images` raises.
    """
    models = {name: entry for name, entry in plan["models"].items() if entry["chunk"] == chunk}
    if not models:
        raise LookupError(f"chunk {chunk!r} is not in the plan of study {plan['study']['study']}")
    frozen_images(plan["study"])  # so that a fault of the data set is not reported as one of a model
    table, began = [], time.perf_counter()
    for position, (model_id, entry) in enumerate(models.items(), start=1):
        try:
            with rerun_if_damaged(plan, results, model_id):
                if collapsed(plan, results, model_id):
                    rows, result = [], "its run collapsed, no outcomes"
                else:
                    rows = list(outcome_rows(plan, model_id, *model_outcomes(plan, results, model_id, device)))
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
