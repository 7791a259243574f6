"""What identifies one training: its settings, their frozen defaults, and the ids made from them. Imports no torch.

A *run* is one training: a cell of the grid and a seed. Its id is made from the settings that differ from the
defaults below, so a new setting with a default renames nothing. Therefore: never change a value in DEFAULTS.
"""

import hashlib
import json
from fractions import Fraction

# Bumped by hand when the arithmetic of training (outcomes) changes: older runs (outcomes) are then made again.
TRAINING_VERSION = 2
OUTCOMES_VERSION = 2

# What the environment holds when torch starts in a job of a study with `reproducible: true`: the kernels of ATen,
# oneDNN and MKL are those for AVX2, whatever the CPU offers beyond. One without AVX2 cannot do it.
REPRODUCIBLE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}

DAMAGED = 1  # time of a table, in seconds since 1970, that marks it as made from a damaged file

NA = "NA"  # a setting that does not apply (inner steps of Standard); it matches only itself

# The recipe of the paper-scale study (Kim et al., NeurIPS 2023). Frozen: see above.
DEFAULTS: dict[str, object] = {
    "data": "cifar10",
    "architecture": "resnet18",
    "width": 0,  # channels or units of the first layer; 0 = the architecture's own
    "activation": "relu",
    "defense": "AT",
    "inner_steps": 10,
    "awp": False,
    "awp_gamma": 0.005,
    "batch_size": 128,
    "augmentation": "crop_flip",
    "extra_data": "none",
    "norm": "Linf",
    "eps": "8/255",
    "trades_beta": 6.0,
    "mart_beta": 5.0,
    "epochs": 200,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.0005,  # of all parameters, as in the published code: biases and BatchNorm too
    "schedule": "piecewise",  # of the learning rate
    "label_smoothing": 0.0,  # of the cross-entropy that is minimised; attacks maximise the plain one
    "fgsm_alpha": 1.25,  # of FGSM-RS: length of its step, in eps
    "alp_weight": 0.5,
    "free_replays": 8,  # of FreeAT: training steps on each batch
    "grad_align": 0.0,  # weight of the gradient alignment penalty; 0 = none
    "sam": "none",  # sharpness-aware minimization
    "sam_rho": 0.05,
    "asam_rho": 0.5,
    "ema_decay": 0.0,  # of an average of the weights over the steps, which then is the model; 0 = none
    "channels_last": False,  # memory layout of weights and images: faster with convolutions, rounds otherwise
    "precision": "float32",  # of the network in training; accuracies, outcomes and measures are always in float32
    "seed": 0,
}
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


def complete(settings: dict) -> dict:
    """All settings of a run: the given ones over the defaults, eps exact, NA where a setting does not apply.

    Raises ValueError for a key that is not a setting.
    """
    for key in settings:
        if key not in DEFAULTS:
            raise ValueError(f"setting {key!r} is unknown; known settings: {', '.join(sorted(DEFAULTS))}")
    full = {**DEFAULTS, **settings}
    full["eps"] = exact(full["eps"])
    applies = {
        "inner_steps": full["defense"] not in ("Standard", "FGSM-RS", "FreeAT"),
        "fgsm_alpha": full["defense"] == "FGSM-RS",
        "alp_weight": full["defense"] == "ALP",
        "free_replays": full["defense"] == "FreeAT",
        "trades_beta": full["defense"] == "TRADES",
        "mart_beta": full["defense"] == "MART",
        "awp_gamma": full["awp"],
        "sam_rho": full["sam"] == "SAM",
        "asam_rho": full["sam"] == "ASAM",
        # MART's loss is no cross-entropy, and of FreeAT the attack climbs the loss that is minimised
        "label_smoothing": full["defense"] not in ("MART", "FreeAT"),
    }
    return full | {key: NA for key, does in applies.items() if not does}


def run_id(settings: dict) -> str:
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
