"""Suggests the intended name: one that is close in spelling, equal up to case and punctuation, or a common alias."""

import difflib
import re
from collections.abc import Iterable

# What papers and their code call our keys and values, in lower case without punctuation.
COMMON = {
    "architecture": "arch model modelname network net backbone",
    "AT": "pgd pgdat madry adversarialtraining advtraining",
    "attacks": "attack",
    "augmentation": "aug augment dataaugmentation dataaug",
    "awp": "adversarialweightperturbation",
    "batch_size": "bs batch trainbatchsize",
    "bfloat16": "bf16 fp16 float16 amp half",
    "cosine": "cosineannealing coslr",
    "crop_flip": "flip cropandflip standard",
    "data": "dataset",
    "defense": "defence method loss algorithm training",
    "ema_decay": "ema wa modelema",
    "eps": "epsilon radius budget",
    "epochs": "epoch nepochs numepochs maxepoch maxepochs",
    "FGSM-RS": "fgsm fastat fast rsfgsm",
    "float32": "fp32 full single",
    "FreeAT": "free freeadversarialtraining",
    "inner_steps": "steps pgdsteps attacksteps attackiters numsteps inneriters",
    "label_smoothing": "smoothing ls",
    "last": "final",
    "Linf": "inf infinity linfinity",
    "lr": "learningrate lrmax baselr",
    "models": "checkpointfiles",
    "norm": "threatmodel pnorm",
    "onecycle": "cyclic",
    "pgd10": "pgd",
    "piecewise": "multistep step stepwise",
    "precision": "dtype amp",
    "schedule": "lrschedule scheduler lrscheduler",
    "seeds": "seed",
    "silu": "swish",
    "Standard": "natural nat clean erm vanilla plain none",
    "trades_beta": "beta lambda",
    "weight_decay": "wd l2 l2reg",
    "wrn28_10": "wideresnet28 wideresnet2810 wrn28",
    "wrn34_10": "wideresnet34 wideresnet3410 wrn34",
    "wrn70_16": "wideresnet70 wideresnet7016 wrn70",
}


def letters_and_digits(name: object) -> str:
    """Lower case, letters and digits only: 'ResNet-18' -> 'resnet18'."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def nearest(found: object, known: Iterable[object]) -> str:
    """', did you mean 'batch_size'?' if a known name is meant or close, else ''."""
    names = [str(name) for name in known]
    same = [name for name in names if letters_and_digits(name) == letters_and_digits(found)]
    others = [name for name in names if letters_and_digits(found) in COMMON.get(name, "").split()]
    by_plain = {letters_and_digits(name): name for name in reversed(names)}
    close = difflib.get_close_matches(str(found), names, n=1)
    close += [by_plain[name] for name in difflib.get_close_matches(letters_and_digits(found), by_plain, n=1)]
    meant = [*same, *others, *close]
    return f", did you mean {meant[0]!r}?" if meant else ""
