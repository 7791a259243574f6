"""Suggests a known name for an unknown one: equal up to case and punctuation, a common alias, or close in spelling."""

import difflib
import re
from collections.abc import Iterable

# Names of our keys and values in papers and their code, in lower case without punctuation.
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
    """', did you mean 'batch_size'?' if there is a similar known name, else ''."""
    names = [str(name) for name in known]
    same_letters = [name for name in names if letters_and_digits(name) == letters_and_digits(found)]
    by_alias = [name for name in names if letters_and_digits(found) in COMMON.get(name, "").split()]
    plain_names = {letters_and_digits(name): name for name in reversed(names)}
    similar = difflib.get_close_matches(str(found), names, n=1)
    similar += [plain_names[name] for name in difflib.get_close_matches(letters_and_digits(found), plain_names, n=1)]
    candidates = [*same_letters, *by_alias, *similar]
    return f", did you mean {candidates[0]!r}?" if candidates else ""
