"""Estimates a study's disk usage from the sizes of its networks and images. Imports no torch."""

from robustgap.workflow.study import IMAGES

# Parameters for 32 x 32 x 3 images in 10 classes at the network's default width, listed next to them; a test checks
# both against training.networks.architectures.
PARAMETERS = {
    "cnn": (26_266, 16),
    "mlp": (411_146, 128),
    "resnet18": (11_173_962, 64),
    "resnet34": (21_282_122, 64),
    "resnet50": (23_520_842, 64),
    "preactresnet18": (11_172_170, 64),
    "wrn28_10": (36_479_194, 16),
    "wrn34_10": (46_160_474, 16),
    "wrn70_16": (266_796_506, 16),
}
FLOAT = 4  # bytes
# Besides tensors: small files, each of which takes whole blocks, and the pages, figures and tables.
BLOCK = 4096
RUN_FILES = 5  # run.json, log.csv, and the last blocks of three weight files
PAGES, PAGE_VALUE = 4e6, 1500  # bytes of figures, report, tables and statistics; and per value of a measure
CHECKPOINTS = 3  # init, last, best
SIDECAR = 3  # during training: weights, momentum, best weights
VALUES = {  # per image
    "digits": 64,
    "digits32": 32 * 32 * 3,
    "cifar10": 32 * 32 * 3,
    "cifar100": 32 * 32 * 3,
    "svhn": 32 * 32 * 3,
    "mnist": 28 * 28,
    "fashion_mnist": 28 * 28,
    "tiny_imagenet": 64 * 64 * 3,
}


CLASSES = {"cifar100": 100, "tiny_imagenet": 200}  # all others: 10


def parameters(architecture: str, width: int, data: str = "cifar10") -> float:
    """Number of parameters of a network for a data set: exact for `cnn` and `mlp`; for residual networks proportional
    to the squared width, and counted for colour images in 10 classes (others differ by about 1 %)."""
    count, own = PARAMETERS[architecture]
    w, values, classes = width or own, VALUES[data], CLASSES.get(data, 10)
    if architecture == "mlp":
        return (values + 1) * w + (w + 1) * w + (w + 1) * classes
    if architecture == "cnn":  # 3 x 3 convolutions without bias to w, 2w and 4w channels, each with BatchNorm
        channels = 3 if values % 3 == 0 else 1
        return 9 * (channels * w + 10 * w * w) + 14 * w + (16 * w + 1) * classes
    return count * (w / own) ** 2


def disk(plan: dict) -> dict[str, float]:
    """Bytes of the finished study (`weights`; `images`: adversarial examples shared by measures, and one bit per image
    and attack; `rest`: records, caches of measures, figures, report), and the additional bytes of one run in training
    (`training`, the largest)."""
    study = plan["study"]
    every = [run["settings"] for run in plan["runs"].values()]
    sizes = [parameters(settings["architecture"], settings["width"], study["data"]) for settings in every]
    images, outcomes = IMAGES[study["data"]], study["outcomes"]
    shown = outcomes.get("train_images", images.train) + outcomes.get("test_images", images.test)
    values = len(plan["models"]) * len(study["measures"])
    bits = shown * len(outcomes["attacks"]) / 8
    return {
        "weights": FLOAT * CHECKPOINTS * sum(sizes),
        "images": len(plan["models"]) * (FLOAT * study["measure_images"] * VALUES[study["data"]] + bits),
        "rest": BLOCK * RUN_FILES * len(sizes) + values * (BLOCK + PAGE_VALUE) + PAGES,
        "training": FLOAT * SIDECAR * max(sizes, default=0.0),
    }


def told(plan: dict) -> str:
    """One line for the plan's summary."""
    found = disk(plan)
    weights, images, rest, training = (amount(found[key]) for key in ("weights", "images", "rest", "training"))
    whole = amount(sum(found.values()) - found["training"])
    kept = f"weights {weights}, adversarial images {images}, figures, caches and logs {rest}"
    return f"{whole} ({kept}), and up to {training} for each run in training"


def amount(size: float) -> str:
    """Bytes as '1.5 GB', or '12 MB' below one GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
