"""Estimates a study's disk usage from the sizes of its networks and images. Imports no torch."""

from robustgap.training.facts import DATA_SET_FACTS, NETWORK_FACTS
from robustgap.training.settings import Plan
from robustgap.workflow.estimate.hours import images_judged, planned_outcomes

FLOAT = 4  # bytes
# Besides tensors: small files, which take whole blocks, and pages, figures and tables.
BLOCK = 4096
RUN_FILES = 5  # run.json, log.csv, and the last blocks of three weight files
PAGES, PAGE_VALUE = 4e6, 1500  # bytes of report, figures and tables: fixed, and per value of a measure
WEIGHT_FILES = 3  # init, last, best
SIDECAR = 3  # during training: weights, momentum, best weights


def parameters(architecture: str, width: int, data: str) -> float:
    """Number of parameters of a network for a data set; width 0 is its own."""
    network = NETWORK_FACTS[architecture]
    return network.parameters(width or network.width, DATA_SET_FACTS[data])


def bytes_by_kind(plan: Plan) -> dict[str, float]:
    """Bytes of the finished study (`weights`; `images`: adversarial examples shared by measures, and one bit per image
    and attack; `rest`: records, caches of measures, figures, report), and the additional bytes of one run in training
    (`training`, the largest)."""
    study = plan["study"]
    run_settings = [run["settings"] for run in plan["runs"].values()]
    sizes = [parameters(settings["architecture"], settings["width"], study["data"]) for settings in run_settings]
    images = DATA_SET_FACTS[study["data"]]
    values = len(plan["models"]) * len(study["measures"])
    bits = sum(images_judged(study, entry) for entry in planned_outcomes(plan)) / 8  # of a model that has them all
    return {
        "weights": FLOAT * WEIGHT_FILES * sum(sizes),
        "images": len(plan["models"]) * (FLOAT * study["measure_images"] * images.values + bits),
        "rest": BLOCK * RUN_FILES * len(sizes) + values * (BLOCK + PAGE_VALUE) + PAGES,
        "training": FLOAT * SIDECAR * max(sizes, default=0.0),
    }


def summary_line(plan: Plan) -> str:
    """One line for the plan's summary."""
    sizes = bytes_by_kind(plan)
    weights, images, rest, training = (amount(sizes[key]) for key in ("weights", "images", "rest", "training"))
    total = amount(sum(sizes.values()) - sizes["training"])
    breakdown = f"weights {weights}, adversarial images {images}, figures, caches and logs {rest}"
    return f"{total} ({breakdown}), and up to {training} for each run in training"


def amount(size: float) -> str:
    """Bytes as '1.5 GB', or '12 MB' below one GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
