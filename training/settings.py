"""What identifies one training: its settings, their frozen defaults, and the ids made from them. Imports no torch.

A *run* is one training: a cell of the grid and a seed. Its id is made from the settings that differ from the
defaults below, so a new setting with a default renames nothing. Therefore: never change a default in SETTINGS.
"""

import hashlib
import json
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

from robustgap.training.facts import DATA_SET_FACTS, DEFENSE_FACTS, EXTRA_SET_FACTS, NETWORK_FACTS, NORMS

# Bumped by hand when the arithmetic of training (outcomes) changes: older runs (outcomes) are then made again.
TRAINING_VERSION = 2
OUTCOMES_VERSION = 2

# Environment variables set before torch starts in a job of a study with `reproducible: true`: ATen, oneDNN and MKL use
# their AVX2 kernels, even on a CPU that offers more. A CPU without AVX2 cannot run such a study.
REPRODUCIBLE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}

DAMAGED = 1  # time of a table, in seconds since 1970, that marks it as made from a damaged file

NA = "NA"  # a setting that does not apply (inner steps of Standard); it matches only itself

# Dictionaries read from files, by these names; the meaning of their keys is fixed.
Settings = dict[str, Any]  # of one training: a value for each of SETTINGS
StudyFile = dict[str, Any]  # a study file; resolved, with every default
Plan = dict[str, Any]  # plan.json
Entry = dict[str, Any]  # of a run or a model in a plan
Record = dict[str, Any]  # run.json
TableRow = dict[str, Any]  # a line of a log or table, by column


class Setting(NamedTuple):
    """default: frozen, see above. rule: the values it may have, as JSON Schema. meaning: its description there."""

    default: object
    rule: dict[str, Any]
    meaning: str = ""


def _names(names: Iterable[str]) -> dict[str, Any]:
    return {"enum": list(names)}


SWITCH: dict[str, Any] = {"type": "boolean"}
AT_LEAST_ONE: dict[str, Any] = {"type": "integer", "minimum": 1}
POSITIVE: dict[str, Any] = {"type": "number", "exclusiveMinimum": 0}
NOT_NEGATIVE: dict[str, Any] = {"type": "number", "minimum": 0}
BELOW_ONE: dict[str, Any] = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}

# The defaults are the recipe of the paper-scale study (Kim et al., NeurIPS 2023).
SETTINGS = {
    "data": Setting("cifar10", _names(DATA_SET_FACTS)),
    "architecture": Setting("resnet18", _names(NETWORK_FACTS)),
    "width": Setting(
        0, {"type": "integer", "minimum": 0}, "channels or units of the first layer; 0 = the architecture's own"
    ),
    "activation": Setting("relu", _names(["relu", "silu", "softplus"])),
    "defense": Setting("AT", _names(DEFENSE_FACTS)),
    "inner_steps": Setting(10, AT_LEAST_ONE, "PGD steps during training; NA for defenses without"),
    "awp": Setting(False, SWITCH, "adversarial weight perturbation"),
    "awp_gamma": Setting(0.005, POSITIVE),
    "batch_size": Setting(128, {"type": "integer", "minimum": 2}),
    "augmentation": Setting("crop_flip", _names(["none", "crop", "crop_flip"])),
    "extra_data": Setting(
        "none",
        _names(["none", "pool", *EXTRA_SET_FACTS]),
        "half of each batch: pool = the data set's own, pseudo-labelled; the others are published sets",
    ),
    "norm": Setting("Linf", _names(NORMS)),
    "eps": Setting(
        "8/255",
        {"type": ["number", "string"]},
        "radius of the threat model in units of [0, 1] images; fractions stay exact: 8/255",
    ),
    "trades_beta": Setting(6.0, NOT_NEGATIVE),
    "mart_beta": Setting(5.0, NOT_NEGATIVE),
    "epochs": Setting(200, AT_LEAST_ONE),
    "lr": Setting(0.1, POSITIVE),
    "momentum": Setting(0.9, BELOW_ONE),
    "weight_decay": Setting(0.0005, NOT_NEGATIVE, "of all parameters: biases and BatchNorm too"),
    "schedule": Setting("piecewise", _names(["piecewise", "cosine", "onecycle"]), "of the learning rate"),
    "label_smoothing": Setting(
        0.0, BELOW_ONE, "share of the label given to all classes alike, in the loss that is minimised, not in attacks"
    ),
    "fgsm_alpha": Setting(1.25, POSITIVE, "length of the step of FGSM-RS, in eps"),
    "alp_weight": Setting(0.5, NOT_NEGATIVE, "of the pairing term of ALP"),
    "free_replays": Setting(8, AT_LEAST_ONE, "training steps on each batch of FreeAT, which count as epochs"),
    "grad_align": Setting(0.0, NOT_NEGATIVE, "weight of the gradient alignment penalty (GradAlign); 0 = none"),
    "sam": Setting("none", _names(["none", "SAM", "ASAM"]), "sharpness-aware minimization of the training loss"),
    "sam_rho": Setting(0.05, POSITIVE, "radius of SAM"),
    "asam_rho": Setting(0.5, POSITIVE, "radius of ASAM"),
    "ema_decay": Setting(
        0.0, BELOW_ONE, "of an average of the weights over the steps, which then is the model; 0 = none"
    ),
    "channels_last": Setting(
        False, SWITCH, "memory layout of weights and images: faster with convolutions, with different rounding"
    ),
    "precision": Setting(
        "float32",
        _names(["float32", "bfloat16"]),
        "of the network in training; accuracies, outcomes and measures are always in float32",
    ),
    "seed": Setting(0, {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}),
}
DEFAULTS = {key: setting.default for key, setting in SETTINGS.items()}
CHECKPOINTS = ("last", "best")


def exact(value: object) -> str:
    """Perturbation budget as an exact, reduced fraction: '8/255' -> '8/255', 0.15 -> '3/20', 0 -> '0'.

    Raises ValueError when `value` is not a non-negative finite number or fraction.
    """
    try:
        fraction = Fraction(str(value).replace(" ", ""))
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"eps: found {value!r}, wanted a number or a fraction such as 8/255") from error
    if fraction < 0:
        raise ValueError(f"eps: found {value!r}, wanted a number >= 0")
    return str(fraction)


def number(fraction: str) -> float:
    """The float nearest to an exact fraction: '8/255' -> 0.03137..."""
    return float(Fraction(fraction))


def complete(settings: Settings) -> Settings:
    """All settings of a run: the given ones over the defaults, eps exact, NA where a setting does not apply.

    Raises ValueError for a key that is not a setting, and for an unknown defense.
    """
    for key in settings:
        if key not in DEFAULTS:
            raise ValueError(f"setting {key!r} is unknown; known settings: {', '.join(sorted(DEFAULTS))}")
    full = {**DEFAULTS, **settings}
    full["eps"] = exact(full["eps"])
    if full["defense"] not in DEFENSE_FACTS:
        raise ValueError(f"defense: found {full['defense']!r}, wanted one of {', '.join(DEFENSE_FACTS)}")
    defense = DEFENSE_FACTS[full["defense"]].settings
    applies = {key: key in defense for facts in DEFENSE_FACTS.values() for key in facts.settings}
    applies |= {"awp_gamma": full["awp"], "sam_rho": full["sam"] == "SAM", "asam_rho": full["sam"] == "ASAM"}
    return full | {key: NA for key, does in applies.items() if not does}


def run_id(settings: Settings) -> str:
    """First 10 hex digits of SHA-256 of the canonical JSON of the settings, keys at their default omitted.

    Keys that do not apply are omitted too: whether they do follows from the others.
    """
    full = complete(settings)
    essential = {key: value for key, value in full.items() if value not in (DEFAULTS[key], NA)}
    canonical = json.dumps(essential, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def model_id(run: str, checkpoint: str) -> str:
    """One checkpoint of a run: '3f2a9c01de-best'."""
    return f"{run}-{checkpoint}"


def chunk_of(name: str, chunks: int) -> str:
    """Stable bucket of a run (so of both its models) among `chunks`, as a three-digit name.

    Hashing the run rather than the model keeps the chain train -> outcomes -> measures of a chunk to itself.
    """
    return f"{int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % chunks:03d}"
