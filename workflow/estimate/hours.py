"""Cost of a study: numbers of trainings, models and jobs, and estimated hours. Imports no torch.

The unit of time is one pass: forward and backward through the network on one batch. A pass on n images takes a + b n
seconds, with a and b measured per architecture and image size on one CPU core.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from robustgap.training.facts import ATTACK_FACTS, DATA_SET_FACTS, DEFENSE_FACTS, NETWORK_FACTS
from robustgap.training.jobs.outcome_id import base_outcomes
from robustgap.training.settings import Plan, Settings, StudyFile
from robustgap.workflow.study import measure_rules

REFERENCE = "resnet18"  # the cost of networks that were not measured is given in multiples of its cost
MEASURED = NETWORK_FACTS[REFERENCE].passes or {}  # by the side of the images
EVALUATION_BATCH = 512
FORWARD, ATTACK_STEP = 0.4, 0.7  # in passes: an attack step needs no gradients of the weights
EPOCH = 0.02  # seconds: shuffling and augmenting the images, the log, the training state
ALIGN_PASSES = 4  # two input gradients, and backward through them
# Per measure image, for both variants, without making the adversarial examples: between the residual network of
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
SHARED_PASSES = {
    "boundary_unreached": "boundary_thickness",
    **dict.fromkeys(("pacbayes_init", "pacbayes_orig"), "pacbayes_flat"),
    **dict.fromkeys(("pacbayes_mag_init", "pacbayes_mag_orig"), "pacbayes_mag_flat"),
}
JOB_START = 2.5  # seconds: Python, torch and the data set

# Seconds of `passes` passes over `images` images: (data, architecture, images, batch, passes).
Seconds = Callable[[str, str, float, int, float], float]


def pixel_ratio(data: str) -> tuple[int, float]:
    """The measured size nearest to a data set's images, and the ratio of their pixels, in which the cost is linear."""
    side = DATA_SET_FACTS[data].side
    measured = min(MEASURED, key=lambda other: abs(other - side))
    return measured, (side / measured) ** 2


def cpu_seconds(data: str, architecture: str, images: float, batch: int, passes: float) -> float:
    """Seconds of `passes` passes over `images` images in batches."""
    side, pixels = pixel_ratio(data)
    network = NETWORK_FACTS[architecture]
    measured = (network.passes or MEASURED)[side]
    batches = max(images / batch, 1.0)  # a single batch of few images costs as much
    parameters, work = network.resnet18s
    return passes * (batches * parameters * measured.fixed + images * pixels * work * measured.image)


def attack_passes(attack: str) -> float:
    """Passes of an attack of outcomes on one image, and of the forward pass that judges it."""
    return FORWARD + ATTACK_FACTS[attack].steps * ATTACK_STEP


def entry_passes(entry: Mapping[str, Any], classes: int) -> float:
    """Passes of an outcome of a plan on one image: of an attack towards each class, of one towards every class."""
    return attack_passes(entry["attack"]) * (classes if entry["target"] == "each" else 1)


def planned_outcomes(plan: Plan) -> list[dict[str, Any]]:
    """All outcomes of a plan: what all models need, then every group."""
    base = [outcome.as_entry() for outcome in base_outcomes(plan["study"])]
    return [*base, *(entry for group in plan["outcomes"].values() for entry in group)]


def images_judged(study: StudyFile, entry: Mapping[str, Any]) -> int:
    """How many images are judged under an outcome of a plan."""
    facts, limits = DATA_SET_FACTS[study["data"]], study["outcomes"]
    train = entry["train_images"] or limits.get("train_images", facts.train)
    return int(train + (entry["test_images"] or limits.get("test_images", facts.test)))


def step_passes(settings: Settings) -> float:
    """Passes of one training step: the inner attack, and the loss with its penalty (twice for AWP or SAM)."""
    defense = DEFENSE_FACTS[settings["defense"]]
    steps = settings["inner_steps"] if defense.attack_steps is None else defense.attack_steps
    loss = defense.passes + (ALIGN_PASSES if settings["grad_align"] else 0)
    return ATTACK_STEP * steps + loss * (2 if settings["awp"] or settings["sam"] != "none" else 1)


def training_seconds(settings: Settings, seconds: Seconds, exact: Seconds) -> float:
    """Seconds of one training: its steps, and the evaluation after every epoch."""
    images = DATA_SET_FACTS[settings["data"]]
    images_per_epoch = images.train * (
        1 if settings["extra_data"] == "none" else 2
    )  # half of each batch is extra images
    passes = (
        attack_passes("clean") + attack_passes("pgd10") + attack_passes("fgsm") / 2
    )  # FGSM on validation images only
    data, architecture = settings["data"], settings["architecture"]
    epoch = seconds(data, architecture, images_per_epoch, settings["batch_size"], step_passes(settings))
    evaluation = exact(data, architecture, 2 * images.val, EVALUATION_BATCH, passes)
    return int(settings["epochs"]) * (epoch + evaluation + EPOCH)


def measure_passes(names: list[str], together: bool) -> float:
    """Passes of these measures on each image; if `together`, shared passes count once."""
    counted = [name for name in names if not (together and SHARED_PASSES.get(name) in names)]
    return sum(MEASURE_PASSES.get(name, LIGHT) for name in counted)


def run_seconds(plan: Plan, settings: Settings, seconds: Seconds, exact: Seconds) -> dict[str, float]:
    """Seconds of one run of a plan by stage; `exact`: in float32, which accuracies, outcomes and measures use."""
    study, images = plan["study"], DATA_SET_FACTS[plan["study"]["data"]]
    models, batch = len(study["checkpoints"]), study["outcomes"]["batch_size"]
    per_image = measure_passes(study["measures"], together=study["measure_jobs"] == "chunk")
    network = settings["data"], settings["architecture"]
    return {
        "training": training_seconds(settings, seconds, exact),
        "outcomes": sum(
            len(entry["checkpoints"] or study["checkpoints"])
            * exact(*network, images_judged(study, entry), batch, entry_passes(entry, images.classes))
            for entry in planned_outcomes(plan)
        ),
        "measures": models * exact(*network, study["measure_images"], EVALUATION_BATCH, per_image),
    }


def hours_by_stage(plan: Plan) -> dict[str, float]:
    """Hours of one CPU core by stage, for the models of the grid."""
    total = {"training": 0.0, "outcomes": 0.0, "measures": 0.0}
    for run in plan["runs"].values():
        for stage, amount in run_seconds(plan, run["settings"], cpu_seconds, cpu_seconds).items():
            total[stage] += amount
    counts, parallel = job_counts(plan), plan["study"]["train_processes"]
    started = {"training": sum(min(parallel, len(batch)) for batch in plan["batches"].values())}
    started |= {"outcomes": counts["outcomes"], "measures": counts["measures"]}
    for stage, processes in started.items():
        total[stage] += JOB_START * processes
    return {stage: amount / 3600 for stage, amount in total.items()}


def job_counts(plan: Plan) -> dict[str, int]:
    """Number of jobs by rule; `measures` stands for all rules compute_... together."""
    chunks = len(plan["chunks"])
    counts = {"data": 1, "train": len(plan["batches"]), "outcomes": chunks * (1 + len(plan["outcomes"]))}
    by_rule = measure_rules(plan["study"])
    extra_rules = len(plan["study"]["measures"]) - sum(map(len, by_rule.values()))  # one measure each
    counts["measures"] = chunks * (len(by_rule) + extra_rules)
    return counts | {"catalogue": 1, "ledger": 1, "analysis": 1, "tables": 1, "figures": 1, "report": 1}


def plan_summary(plan: Plan, more: list[tuple[str, str]]) -> str:
    """Summary for the terminal: what is trained and measured, what is excluded and why, and the cost; `more`: further
    lines (title, text)."""
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
        ("outcomes", ", ".join(entry["id"] for entry in planned_outcomes(plan))),
        ("measures", f"{len(study['measures'])} on {study['measure_images']} images"),
        ("chunks", f"{len(sizes)} (of {min(sizes.values())} to {max(sizes.values())} models)"),
        ("jobs", f"{sum(counts.values())}: " + ", ".join(f"{rule} {count}" for rule, count in counts.items())),
    ]
    rows += [("excluded", f"{rule['count']} trainings, {rule['where']}: {rule['reason']}") for rule in plan["excluded"]]
    by_stage, cores = hours_by_stage(plan), os.cpu_count() or 1
    stages = ", ".join(f"{stage} {clock(amount)}" for stage, amount in by_stage.items())
    foreign = "; models trained elsewhere not counted" * (grid < len(plan["models"]))
    total = sum(by_stage.values())
    rows.append(("one core", f"{clock(total)} ({stages}): an estimate, from times measured on one CPU core{foreign}"))
    rows.append((f"{cores} cores here", clock(total / cores)))
    return "\n".join(f"{name:15} {text}" for name, text in [*rows, *more])


def clock(amount: float) -> str:
    """Hours as '1.5 h', or '12 min' below one hour."""
    return f"{amount:,.1f} h" if amount >= 1 else f"{60 * amount:.0f} min"
