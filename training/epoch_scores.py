"""Accuracy of a network during training, in eval mode: on clean, PGD-10 and FGSM images."""

import torch
from torch import Tensor, nn

from robustgap.training.attacks import EVALUATION_START, fgsm, pgd, start
from robustgap.training.data.splits import Splits
from robustgap.training.modes import evaluating, frozen, full_precision
from robustgap.training.settings import Settings, number


def accuracies(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Correctness (n,) on clean and on PGD-10 images of the run's threat model, in eval mode, 512 images at a time."""
    eps, norm = number(settings["eps"]), settings["norm"]
    clean, robust = [], []
    with evaluating(model), frozen(model), full_precision():
        for rows in torch.split(torch.arange(len(y), device=x.device), 512):
            images, label = x[rows], y[rows]
            noise = start(images, index[rows], seed=0, eps=eps, norm=norm, stream=EVALUATION_START)
            x_adv = pgd(model, images, label, eps=eps, noise=noise, norm=norm)
            with torch.no_grad():
                clean.append(model(images).argmax(1) == label)
                robust.append(model(x_adv).argmax(1) == label)
    return torch.cat(clean), torch.cat(robust)


def fgsm_accuracy(model: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> float:
    """Accuracy after one step of size eps from the images themselves, in eval mode, 512 images at a time."""
    right = 0
    with evaluating(model), frozen(model), full_precision():
        for images, label in zip(torch.split(x, 512), torch.split(y, 512), strict=True):
            x_adv = fgsm(model, images, label, eps=number(settings["eps"]), norm=settings["norm"])
            with torch.no_grad():
                right += int((model(x_adv).argmax(1) == label).sum())
    return right / len(y)


def epoch_scores(model: nn.Module, splits: Splits, settings: Settings) -> dict[str, float]:
    """Clean and PGD-10 accuracy on the validation images and on an equal number of (un-augmented) training images; and
    FGSM accuracy on the validation images, which together with PGD accuracy reveals catastrophic overfitting."""
    n = len(splits.val)
    probe = [
        torch.cat([a, b[:n]])
        for a, b in (
            (splits.val.images, splits.train.images),
            (splits.val.labels, splits.train.labels),
            (splits.val.index, splits.train.index),
        )
    ]
    x = splits.floats(probe[0])
    clean, robust = accuracies(model, x, probe[1], probe[2], settings)
    return {
        "train_clean": float(clean[n:].double().mean()),
        "train_robust": float(robust[n:].double().mean()),
        "val_clean": float(clean[:n].double().mean()),
        "val_robust": float(robust[:n].double().mean()),
        "val_fgsm": fgsm_accuracy(model, x[:n], probe[1][:n], settings),
    }
