"""Cost of a study: numbers of trainings, models and jobs, and estimated hours. Imports no torch.

The unit of time is one pass: forward and backward through the network on one batch. A pass on n images takes a + b n
seconds, with a and b measured per architecture and image size on one CPU core.
"""

import os
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from robustgap.workflow.study import IMAGES, measure_rules


class Pass(NamedTuple):
    """Seconds of one pass: `fixed` per batch plus `image` per image."""

    fixed: float
    image: float


# Measured with torch 2.13, float32, one thread of a 2-core virtual machine (CPU time), November 2026. Convolutions take
# .4 to .7 times as long with AVX-512 as with AVX2: the values are the geometric mean of both.
PASSES = {
    ("digits", "cnn"): Pass(2.3e-3, 4.6e-5),
    ("digits", "mlp"): Pass(1.2e-3, 4.0e-6),
    ("digits", "resnet18"): Pass(6.2e-2, 5.1e-3),
    ("digits32", "cnn"): Pass(1.2e-3, 3.9e-4),
    ("digits32", "mlp"): Pass(1.5e-3, 3.4e-5),
    ("digits32", "resnet18"): Pass(5.3e-2, 5.2e-2),
}
# Not measured: parameters (cost of a batch) and multiply-adds (cost of an image) as multiples of ResNet-18's.
LIKE_RESNET18 = {
    "preactresnet18": Pass(1.0, 1.0),
    "resnet34": Pass(1.9, 2.1),
    "resnet50": Pass(2.1, 2.3),
    "wrn28_10": Pass(3.3, 9.4),
    "wrn34_10": Pass(4.1, 12.0),
    "wrn70_16": Pass(23.9, 69.8),
}
# Images of a data set cost as many times those of a measured one as they have more pixels.
SHAPE = {
    "digits": ("digits", 1.0),
    "digits32": ("digits32", 1.0),
    "cifar10": ("digits32", 1.0),
    "cifar100": ("digits32", 1.0),
    "svhn": ("digits32", 1.0),
    "mnist": ("digits32", (28 / 32) ** 2),
    "fashion_mnist": ("digits32", (28 / 32) ** 2),
    "tiny_imagenet": ("digits32", (64 / 32) ** 2),
}
EVALUATION_BATCH = 512
FORWARD, ATTACK_STEP = 0.4, 0.7  # in passes: an attack step needs no gradients of the weights
ATTACK_PASSES = {
    "clean": FORWARD,
    "fgsm": FORWARD + ATTACK_STEP,
    "pgd10": FORWARD + 10 * ATTACK_STEP,
}
EPOCH = 0.02  # seconds: shuffling and augmenting the images, the log, the training state
LOSS_PASSES = {"Standard": 1, "AT": 1, "TRADES": 2, "MART": 2, "FGSM-RS": 1, "FreeAT": 1, "ALP": 2}
ATTACK_STEPS = {
    "Standard": 0,
    "FGSM-RS": 1,
    "FreeAT": 0,
}  # the others take as many as the settings say
ALIGN_PASSES = 4  # two input gradients, and backward through them
# On each measure image, in both variants, with the adversarial examples at hand: between the residual network of
# benchmarks/measures.md, and a CNN and an MLP, which spend more between their passes. Of any other measure: LIGHT.
MEASURE_PASSES = {
    "average_flat": 110,
    "boundary_thickness": 125,
    "boundary_unreached": 35,
    "clever": 75,
    "hessian_top": 60,
    "hessian_trace": 40,
    "minimum_distance": 60,
    "worst_flat": 50,
    **dict.fromkeys(("local_linearity", "local_lip", "local_lip_kl"), 30),
    **dict.fromkeys(("adaptive_sharpness", "adaptive_sharpness_average", "adaptive_sharpness_logit_normalised"), 15),
    **dict.fromkeys((f"pacbayes_{kind}" for kind in ("flat", "init", "orig", "mag_flat", "mag_init", "mag_orig")), 90),
}
LIGHT = 5
# With `measure_jobs: chunk`: passes already made for another measure, if that is requested too.
SHARED = {
    "boundary_unreached": "boundary_thickness",
    **dict.fromkeys(("pacbayes_init", "pacbayes_orig"), "pacbayes_flat"),
    **dict.fromkeys(("pacbayes_mag_init", "pacbayes_mag_orig"), "pacbayes_mag_flat"),
}
JOB_START = 2.5  # seconds: Python, torch and the data set

# Seconds of `passes` passes over `images` images: (data, architecture, images, batch, passes).
Seconds = Callable[[str, str, float, int, float], float]


def seconds(data: str, architecture: str, images: float, batch: int, passes: float) -> float:
    """Seconds of `passes` passes over `images` images in batches."""
    shape, pixels = SHAPE[data]
    if architecture in LIKE_RESNET18:
        architecture, (parameters, work) = "resnet18", LIKE_RESNET18[architecture]
    else:
        parameters, work = 1.0, 1.0
    one = PASSES[shape, architecture]
    batches = max(images / batch, 1.0)  # a single batch of few images costs as much
    return passes * (batches * parameters * one.fixed + images * pixels * work * one.image)


def step_passes(settings: dict) -> float:
    """Passes of one training step: the inner attack, and the loss with its penalty (twice for AWP or SAM)."""
    steps = ATTACK_STEPS.get(settings["defense"], settings["inner_steps"])
    loss = LOSS_PASSES[settings["defense"]] + (ALIGN_PASSES if settings["grad_align"] else 0)
    return ATTACK_STEP * steps + loss * (2 if settings["awp"] or settings["sam"] != "none" else 1)


def training_seconds(settings: dict, seconds: Seconds, exact: Seconds) -> float:
    """Seconds of one training: its steps, and the accuracies after every epoch."""
    images = IMAGES[settings["data"]]
    seen = images.train * (1 if settings["extra_data"] == "none" else 2)  # half of each batch is extra images
    look = ATTACK_PASSES["clean"] + ATTACK_PASSES["pgd10"] + ATTACK_PASSES["fgsm"] / 2  # FGSM on validation images only
    data, architecture = settings["data"], settings["architecture"]
    epoch = seconds(data, architecture, seen, settings["batch_size"], step_passes(settings))
    after = exact(data, architecture, 2 * images.val, EVALUATION_BATCH, look)
    return settings["epochs"] * (epoch + after + EPOCH)


def measure_passes(names: list[str], together: bool) -> float:
    """Passes of these measures on each image; if `together`, common work is counted once."""
    apart = [name for name in names if not (together and SHARED.get(name) in names)]
    return sum(MEASURE_PASSES.get(name, LIGHT) for name in apart)


def run_seconds(plan: dict, settings: dict, seconds: Seconds, exact: Seconds) -> dict[str, float]:
    """Seconds of one run of a plan by stage; `exact`: in float32, which accuracies, outcomes and measures use."""
    study, images = plan["study"], IMAGES[plan["study"]["data"]]
    outcomes, models = study["outcomes"], len(study["checkpoints"])
    shown = outcomes.get("train_images", images.train) + outcomes.get("test_images", images.test)
    attacks = sum(ATTACK_PASSES[attack] for attack in outcomes["attacks"])
    measured = measure_passes(study["measures"], together=study["measure_jobs"] == "chunk")
    network = settings["data"], settings["architecture"]
    return {
        "training": training_seconds(settings, seconds, exact),
        "outcomes": models * exact(*network, shown, outcomes["batch_size"], attacks),
        "measures": models * exact(*network, study["measure_images"], EVALUATION_BATCH, measured),
    }


def hours(plan: dict) -> dict[str, float]:
    """Hours of one CPU core by stage, for the models of the grid."""
    total = {"training": 0.0, "outcomes": 0.0, "measures": 0.0}
    for run in plan["runs"].values():
        for stage, amount in run_seconds(plan, run["settings"], seconds, seconds).items():
            total[stage] += amount
    counts, together = job_counts(plan), plan["study"]["train_processes"]
    started = {"training": sum(min(together, len(batch)) for batch in plan["batches"].values())}
    started |= {"outcomes": counts["outcomes"], "measures": counts["measures"]}
    for stage, processes in started.items():
        total[stage] += JOB_START * processes
    return {stage: amount / 3600 for stage, amount in total.items()}


def job_counts(plan: dict) -> dict[str, int]:
    """Number of jobs by rule; `measures` stands for all rules compute_... together."""
    chunks = len(plan["chunks"])
    counts = {"data": 1, "train": len(plan["batches"]), "outcomes": chunks}
    by_rule = measure_rules(plan["study"])
    elsewhere = len(plan["study"]["measures"]) - sum(map(len, by_rule.values()))  # each has a rule of its own
    counts["measures"] = chunks * (len(by_rule) + elsewhere)
    return counts | {"catalogue": 1, "ledger": 1, "analysis": 1, "tables": 1, "figures": 1, "report": 1}


def summary(plan: dict, more: list[tuple[str, str]]) -> str:
    """A page for the terminal: what will be trained and measured, what is excluded and why, and the cost; `more`:
    further lines (name, text) at its end."""
    study, runs, counts = plan["study"], plan["runs"], job_counts(plan)
    seeds, excluded = len(study["seeds"]), sum(rule["count"] for rule in plan["excluded"])
    cells = 1 if study["axes"] else 0
    for values in study["axes"].values():
        cells *= len(values)
    coincide = cells - (len(runs) + excluded) // seeds
    sizes = Counter(entry["chunk"] for entry in plan["models"].values())
    grid = sum(entry["source"] == "grid" for entry in plan["models"].values())
    rows = [
        ("study", study["study"]),
        ("threat model", f"{study['data']}, {study['norm']}, eps {study['eps']}"),
        ("axes", ", ".join(f"{axis} {len(study['axes'][axis])}" for axis in plan["axes"]) or "none"),
        ("configurations", f"{len(runs) // seeds}" + f" ({coincide} more cells coincide with these)" * (coincide > 0)),
        ("trainings", f"{len(runs)} ({seeds} seed{'s' * (seeds > 1)})"),
        ("models", f"{len(plan['models'])} ({grid} of the grid, {len(plan['models']) - grid} trained elsewhere)"),
        ("measures", f"{len(study['measures'])} on {study['measure_images']} images"),
        ("chunks", f"{len(sizes)} (of {min(sizes.values())} to {max(sizes.values())} models)"),
        ("jobs", f"{sum(counts.values())}: " + ", ".join(f"{rule} {count}" for rule, count in counts.items())),
    ]
    rows += [("excluded", f"{rule['count']} trainings, {rule['where']}: {rule['reason']}") for rule in plan["excluded"]]
    by_stage, cores = hours(plan), os.cpu_count() or 1
    stages = ", ".join(f"{stage} {clock(amount)}" for stage, amount in by_stage.items())
    foreign = "; models trained elsewhere not counted" * (grid < len(plan["models"]))
    total = sum(by_stage.values())
    rows.append(("one core", f"{clock(total)} ({stages}): an estimate, from times measured on one CPU core{foreign}"))
    rows.append((f"{cores} cores here", clock(total / cores)))
    return "\n".join(f"{name:15} {text}" for name, text in [*rows, *more])


def clock(amount: float) -> str:
    """Hours as '1.5 h', or '12 min' below one hour."""
    return f"{amount:,.1f} h" if amount >= 1 else f"{60 * amount:.0f} min"
