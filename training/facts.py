"""Facts about data sets, extra images, networks, defenses and attacks: one entry each. Imports no torch.

The names and rules of study files, the settings that apply, the sizes and costs behind estimates of hours and disk, the
files that are downloaded, and tables of the README come from here. The code behind an entry is a function that
registers itself under that name; `module` is where.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

NORMS = ("Linf", "L2")
VALIDATION = 50  # one in so many published training images, stratified: 1,000 of CIFAR's; fixed for ever


@dataclass(frozen=True)
class DataFile:
    """path below data_dir, as torchvision lays it out; checksum 'md5:...' or 'sha256:...', '' where none is known;
    urls, tried in their order; archive: the tar file to unpack it from, where it does not come by itself."""

    path: str
    checksum: str
    urls: tuple[str, ...] = ()
    archive: "DataFile | None" = None


class DataSetFacts(NamedTuple):
    """train, val, test, extra: numbers of images; side: height and width in pixels. files: those of training images
    first, those of test images last, in the order in which they are read."""

    about: str
    channels: int
    side: int
    classes: int
    train: int
    val: int
    test: int
    extra: int = 0
    files: tuple[DataFile, ...] = ()
    module: str = "robustgap.training.data.datasets"

    @property
    def values(self) -> int:
        """Numbers in an image."""
        return self.channels * self.side**2


def published(about: str, files: tuple[DataFile, ...], *shape: int) -> DataSetFacts:
    """Facts about a published data set, part of whose training images are kept for validation. shape: channels, side,
    classes, training images, test images."""
    channels, side, classes, train, test = shape
    val = train // VALIDATION
    return DataSetFacts(about, channels, side, classes, train - val, val, test, files=files)


def _cifar(folder: str, archive: str, md5: str, batches: dict[str, str]) -> tuple[DataFile, ...]:
    whole = DataFile(archive, f"md5:{md5}", (f"https://www.cs.toronto.edu/~kriz/{archive}",))
    return tuple(DataFile(f"{folder}/{name}", f"md5:{digest}", archive=whole) for name, digest in batches.items())


def _idx(folder: str, addresses: tuple[str, ...], digests: tuple[str, ...]) -> tuple[DataFile, ...]:
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return tuple(
        DataFile(f"{folder}/raw/{name}", f"md5:{digest}", tuple(address + name for address in addresses))
        for name, digest in zip(names, digests, strict=True)
    )


def _single(address: str, digests: dict[str, str]) -> tuple[DataFile, ...]:
    return tuple(DataFile(name, f"md5:{digest}", (address + name,)) for name, digest in digests.items())


CIFAR10 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CIFAR100 = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}
MNIST = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
FASHION_MNIST = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
FILES = {
    "cifar10": _cifar("cifar-10-batches-py", "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", CIFAR10),
    "cifar100": _cifar("cifar-100-python", "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", CIFAR100),
    "svhn": _single(
        "http://ufldl.stanford.edu/housenumbers/",
        {"train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373", "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3"},
    ),
    "mnist": _idx(
        "MNIST", ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"), MNIST
    ),
    "fashion_mnist": _idx(
        "FashionMNIST", ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",), FASHION_MNIST
    ),
    "tiny_imagenet": _single(
        "http://cs231n.stanford.edu/", {"tiny-imagenet-200.zip": "90528d7ca1a48142e341f4ef8d21d0de"}
    ),
}
TINY = "Tiny-ImageNet-200 (Stanford CS231n, 2015); its validation images are the test images"
DATA_SET_FACTS = {
    "digits": DataSetFacts("handwritten digits of scikit-learn", 1, 8, 10, 500, 100, 897, 300),
    "digits32": DataSetFacts("the same in CIFAR's form", 3, 32, 10, 500, 100, 897, 300),
    "cifar10": published("CIFAR-10 (Krizhevsky, 2009)", FILES["cifar10"], 3, 32, 10, 50_000, 10_000),
    "cifar100": published("CIFAR-100 with its fine classes", FILES["cifar100"], 3, 32, 100, 50_000, 10_000),
    "svhn": published("Street View House Numbers (Netzer et al., 2011)", FILES["svhn"], 3, 32, 10, 73_257, 26_032),
    "mnist": published("MNIST (LeCun et al., 1998)", FILES["mnist"], 1, 28, 10, 60_000, 10_000),
    "fashion_mnist": published("Fashion-MNIST (Xiao et al., 2017)", FILES["fashion_mnist"], 1, 28, 10, 60_000, 10_000),
    "tiny_imagenet": published(TINY, FILES["tiny_imagenet"], 3, 64, 200, 100_000, 10_000),
}


class ExtraSetFacts(NamedTuple):
    """Extra training images that others published. files: by data set. No authors publish checksums: a study names the
    SHA-256 of its file under extra_sha256."""

    about: str
    files: dict[str, DataFile]


def _download(path: str, address: str, remote: str = "") -> DataFile:
    return DataFile(path, "", (address + (remote or path),))


DDPM_ADDRESS = "https://storage.googleapis.com/dm-adversarial-robustness/"
EDM_ADDRESS = "https://huggingface.co/datasets/P2333/DM-Improves-AT/resolve/main/"
EXTRA_SET_FACTS = {
    "ti500k": ExtraSetFacts(
        "500,000 images near CIFAR-10 with pseudo-labels, a pickle (Carmon et al., 2019)",
        {"cifar10": DataFile("ti_500K_pseudo_labeled.pickle", "")},
    ),
    "ddpm": ExtraSetFacts(
        "1,000,000 images made by a diffusion model, as labelled there (Rebuffi et al., 2021)",
        {data: _download(f"{data}_ddpm.npz", DDPM_ADDRESS) for data in ("cifar10", "cifar100", "svhn")},
    ),
    "edm1m": ExtraSetFacts(
        "1,000,000 images made by a class-conditional diffusion model (Wang et al., 2023)",
        {data: _download(f"edm_data/{data}/1m.npz", EDM_ADDRESS, f"{data}/1m.npz") for data in ("cifar10", "cifar100")},
    ),
}


class Pass(NamedTuple):
    """Seconds of one pass, forward and backward: `fixed` per batch plus `image` per image."""

    fixed: float
    image: float


class NetworkFacts(NamedTuple):
    """width: channels or units of its first layer where the setting is 0. parameters: of a width and a data set.
    passes: measured, by the side of the images in pixels; of a network that was not measured, multiples of ResNet-18's:
    parameters (cost of a batch) and multiply-adds (cost of an image)."""

    about: str
    width: int
    parameters: Callable[[int, DataSetFacts], float]
    module: str
    passes: dict[int, Pass] | None = None
    resnet18s: Pass = Pass(1.0, 1.0)


def _cnn(width: int, data: DataSetFacts) -> float:
    """Three 3 x 3 convolutions without bias to w, 2w and 4w channels, each with BatchNorm, and a linear layer."""
    return 9 * (data.channels * width + 10 * width * width) + 14 * width + (16 * width + 1) * data.classes


def _mlp(width: int, data: DataSetFacts) -> float:
    return (data.values + 1) * width + (width + 1) * width + (width + 1) * data.classes


def _residual(count: int, own_width: int) -> Callable[[int, DataSetFacts], float]:
    """Proportional to the squared width; `count`: for colour images in 10 classes (others differ by about 1 %)."""
    return lambda width, data: count * (width / own_width) ** 2


def _family(name: str) -> str:
    return f"robustgap.training.networks.architectures.{name}"


# Passes: measured with torch 2.13, float32, one thread of a 2-core virtual machine (CPU time), November 2026.
# Convolutions take .4 to .7 times as long with AVX-512 as with AVX2: the values are the geometric mean of both.
NETWORK_FACTS = {
    "cnn": NetworkFacts(
        "three convolutions", 16, _cnn, _family("small"), {8: Pass(2.3e-3, 4.6e-5), 32: Pass(1.2e-3, 3.9e-4)}
    ),
    "mlp": NetworkFacts(
        "two hidden layers", 128, _mlp, _family("small"), {8: Pass(1.2e-3, 4.0e-6), 32: Pass(1.5e-3, 3.4e-5)}
    ),
    "resnet18": NetworkFacts(
        "ResNet-18 in CIFAR's form (He et al., 2016)",
        64,
        _residual(11_173_962, 64),
        _family("resnet"),
        {8: Pass(6.2e-2, 5.1e-3), 32: Pass(5.3e-2, 5.2e-2)},
    ),
    "resnet34": NetworkFacts("ResNet-34", 64, _residual(21_282_122, 64), _family("resnet"), resnet18s=Pass(1.9, 2.1)),
    "resnet50": NetworkFacts("ResNet-50", 64, _residual(23_520_842, 64), _family("resnet"), resnet18s=Pass(2.1, 2.3)),
    "preactresnet18": NetworkFacts(
        "PreAct-ResNet-18", 64, _residual(11_172_170, 64), _family("preact"), resnet18s=Pass(1.0, 1.0)
    ),
    "wrn28_10": NetworkFacts(
        "WRN-28-10 in TRADES' form (Zagoruyko and Komodakis, 2016)",
        16,
        _residual(36_479_194, 16),
        _family("preact"),
        resnet18s=Pass(3.3, 9.4),
    ),
    "wrn34_10": NetworkFacts("WRN-34-10", 16, _residual(46_160_474, 16), _family("preact"), resnet18s=Pass(4.1, 12.0)),
    "wrn70_16": NetworkFacts(
        "WRN-70-16", 16, _residual(266_796_506, 16), _family("preact"), resnet18s=Pass(23.9, 69.8)
    ),
}


class DefenseFacts(NamedTuple):
    """settings: those that do not apply to every defense and apply to this one. passes: through the network for the
    loss of one step. attack_steps: of the inner attack; None: as many as inner_steps says."""

    about: str
    settings: tuple[str, ...]
    passes: int = 1
    attack_steps: int | None = None
    module: str = "robustgap.training.defenses"


SMOOTHED, STEPPED = "label_smoothing", "inner_steps"
# MART's loss is no cross-entropy, and of FreeAT the attack climbs the loss that is minimised: no smoothed labels.
DEFENSE_FACTS = {
    "Standard": DefenseFacts("clean images", (SMOOTHED,), attack_steps=0),
    "AT": DefenseFacts("PGD examples (Madry et al., 2018)", (STEPPED, SMOOTHED)),
    "TRADES": DefenseFacts(
        "clean images, and their KL divergence to PGD examples (Zhang et al., 2019)",
        (STEPPED, "trades_beta", SMOOTHED),
        passes=2,
    ),
    "MART": DefenseFacts(
        "PGD examples, misclassified images above all (Wang et al., 2020)", (STEPPED, "mart_beta"), passes=2
    ),
    "FGSM-RS": DefenseFacts(
        "one FGSM step from a random start (Wong et al., 2020)", ("fgsm_alpha", SMOOTHED), attack_steps=1
    ),
    "FreeAT": DefenseFacts(
        "replayed batches, whose one gradient serves weights and perturbation (Shafahi et al., 2019)",
        ("free_replays",),
        attack_steps=0,
    ),
    "ALP": DefenseFacts(
        "clean images and PGD examples with paired logits (Kannan et al., 2018)",
        (STEPPED, "alp_weight", SMOOTHED),
        passes=2,
    ),
}


class AttackFacts(NamedTuple):
    """An attack of outcomes.

    steps     of the gradient, or what costs as much, for an image that stays robust
    whole     whether it must be given all images at once
    norms     in which it is defined
    targets   words for what a targeted attack aims at, besides the number of a class; none: untargeted
    options   values of each option, the default first; (): any text, and none is left out
    parts     what an attack with parts is divided by: `target`, or the name of an option; '' for one that has none
    stateful  whether it saves what it has finished in a folder, to resume from
    signs     whether its module has `signs(model, x, y, index, eps, norm)`, which says why not to trust it
    classes   the least number of classes
    """

    about: str
    steps: int
    whole: bool = False
    module: str = "robustgap.training.outcome_attacks.gradient"
    norms: tuple[str, ...] = ("Linf", "L2")
    targets: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = {}
    parts: str = ""
    stateful: bool = False
    signs: bool = False
    classes: int = 2


_NOISE, _DEEPFOOL, _AUTOATTACK, _TARGETED, _CORRUPTION, _TRANSFER = (
    f"robustgap.training.outcome_attacks.{name}"
    for name in ("noise", "deepfool", "autoattack", "targeted", "corruption", "transfer")
)


def _library(about: str, steps: int, *, parts: str = "", classes: int = 2) -> AttackFacts:
    """Components of AutoAttack; `batch`: for how many images the library draws at a time."""
    options = {"batch": ("250", "50", "100", "500", "1000")}
    return AttackFacts(about, steps, True, _AUTOATTACK, NORMS, (), options, parts, True, True, classes)


CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("gaussian_blur", "brightness", "contrast", "pixelate", "jpeg_compression"),
)
ATTACK_FACTS = {
    "clean": AttackFacts("no attack", 0),
    "fgsm": AttackFacts("one step of size eps from the image itself", 1),
    "pgd10": AttackFacts("10 steps of eps/4 from a uniform start in the ball", 10),
    "pgd50x10": AttackFacts("50 steps of eps/4 from each of 10 uniform starts", 500),
    "targeted_pgd": AttackFacts(
        "PGD-10 towards a class: a number, `drawn` (one for each image) or `each` in turn",
        10,
        module=_TARGETED,
        targets=("each", "drawn"),
        parts="target",
    ),
    "apgd_ce": _library("APGD on the cross-entropy, 100 steps", 100),
    "apgd_t": _library("APGD on the targeted difference of logits ratio, 100 steps a class", 900, classes=4),
    "fab_t": _library("targeted FAB, 100 steps a class", 1200),
    "square": _library("Square, 5,000 queries without gradients", 2900),
    "autoattack": _library("standard AutoAttack: the four before it, in turn", 5100, parts="until", classes=4),
    "deepfool": AttackFacts("DeepFool, counted where its change is no longer than eps", 50, False, _DEEPFOOL),
    "transfer": AttackFacts(
        "examples that `by` makes of other models of the study: `source`, their ids, joined by commas",
        10,
        module=_TRANSFER,
        options={"source": (), "by": ("pgd10", "fgsm", "pgd50x10")},
    ),
    "uniform_noise": AttackFacts("a uniform draw from the ball, as control", 0, False, _NOISE),
    "gaussian_noise": AttackFacts("Gaussian noise scaled to the norm eps, as control", 0, False, _NOISE),
    "corruption": AttackFacts(
        "a common corruption (Hendrycks and Dietterich, 2019), by `kind`; eps is its severity, 1 to 5",
        0,
        module=_CORRUPTION,
        norms=("severity",),
        options={"kind": CORRUPTIONS},
    ),
}
