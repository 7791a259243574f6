"""How much disk a study takes, from the sizes of its networks and images. Imports no torch."""

from workflow.study import IMAGES

# Parameters for images of 32 x 32 x 3 in 10 classes and the network's own width, which stands beside them; a test holds
# both against training.architectures.
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
CHECKPOINTS = 3  # init, last, best
SIDECAR = 3  # of a run in training: weights, momentum, best weights
VALUES = {  # of one image
    "digits": 64,
    "digits32": 32 * 32 * 3,
    "cifar10": 32 * 32 * 3,
    "cifar100": 32 * 32 * 3,
    "svhn": 32 * 32 * 3,
    "mnist": 28 * 28,
    "fashion_mnist": 28 * 28,
    "tiny_imagenet": 64 * 64 * 3,
}


def parameters(architecture: str, width: int) -> float:
    """Parameters of a network; of another width than its own in proportion to the square."""
    count, own = PARAMETERS[architecture]
    return count * ((width or own) / own) ** 2


def disk(plan: dict) -> dict[str, float]:
    """Bytes of the finished study (`weights`, `images`: adversarial ones that measures share, and a bit for each image
    and attack), and of one run in training beside them (`training`, the largest)."""
    study = plan["study"]
    sizes = [parameters(run["settings"]["architecture"], run["settings"]["width"]) for run in plan["runs"].values()]
    images, outcomes = IMAGES[study["data"]], study["outcomes"]
    shown = outcomes.get("train_images", images.train) + outcomes.get("test_images", images.test)
    bits = shown * len(outcomes["attacks"]) / 8
    return {
        "weights": FLOAT * CHECKPOINTS * sum(sizes),
        "images": len(plan["models"]) * (FLOAT * study["measure_images"] * VALUES[study["data"]] + bits),
        "training": FLOAT * SIDECAR * max(sizes, default=0.0),
    }


def told(plan: dict) -> str:
    """One line for the summary of a plan."""
    found = disk(plan)
    weights, images, training = (amount(found[key]) for key in ("weights", "images", "training"))
    whole = amount(found["weights"] + found["images"])
    return f"{whole} (weights {weights}, adversarial images {images}), and up to {training} for each run in training"


def amount(size: float) -> str:
    """Bytes as '1.5 GB', or '12 MB' below one."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
