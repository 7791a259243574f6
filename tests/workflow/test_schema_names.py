"""The names and sizes that a study file is checked against are those of the code that reads it."""

from robustgap.training.attacks import NORMS
from robustgap.training.data.augment import AUGMENTATIONS
from robustgap.training.data.datasets import DATASETS, DIGITS_SIZES, VALIDATION, load
from robustgap.training.data.extra_sets import EXTRA_SETS as PUBLISHED
from robustgap.training.defenses import DEFENSES
from robustgap.training.networks.architectures import ACTIVATIONS, ARCHITECTURES
from robustgap.training.schedules import SCHEDULES
from robustgap.training.settings import CHECKPOINTS, DEFAULTS
from robustgap.workflow.by_hand import NO_ADDRESS
from robustgap.workflow.study import EXTRA_SETS, IMAGES
from robustgap.workflow.study_faults import schema


def test_the_schema_lists_what_training_has_registered():
    settings = schema()["properties"]["settings"]["properties"]
    axes = schema()["properties"]["axes"]["properties"]
    assert set(settings) == set(axes) == set(DEFAULTS) - {"data", "norm", "eps", "seed"}
    assert all(axes[key]["items"] == settings[key] for key in settings)
    for key, registry in (
        ("architecture", ARCHITECTURES),
        ("activation", ACTIVATIONS),
        ("defense", DEFENSES),
        ("augmentation", AUGMENTATIONS),
        ("schedule", SCHEDULES),
    ):
        assert sorted(settings[key]["enum"]) == sorted(registry)
    top = schema()["properties"]
    assert sorted(top["data"]["enum"]) == sorted(DATASETS) == sorted(IMAGES)
    assert {name: list(files) for name, files in PUBLISHED.items()} == EXTRA_SETS
    no_address = {name: [file.path for file in files.values() if not file.urls] for name, files in PUBLISHED.items()}
    assert {name: paths[0] for name, paths in no_address.items() if paths} == NO_ADDRESS
    assert settings["extra_data"]["enum"] == ["none", "pool", *PUBLISHED]
    assert list(top["extra_sha256"]["properties"]) == list(PUBLISHED)
    assert tuple(top["norm"]["enum"]) == NORMS
    assert tuple(top["checkpoints"]["items"]["enum"]) == CHECKPOINTS


def test_split_sizes_are_those_of_the_data():
    assert DIGITS_SIZES == {"train": 500, "val": 100, "extra": 300, "test": 897}
    splits = load("digits")
    sizes = {name: len(getattr(splits, name)) for name in ("train", "val", "test", "extra")}
    assert sizes == IMAGES["digits"]._asdict() == IMAGES["digits32"]._asdict()
    published = {  # training and test images, as their authors count them
        "cifar10": (50_000, 10_000),
        "cifar100": (50_000, 10_000),
        "svhn": (73_257, 26_032),
        "mnist": (60_000, 10_000),
        "fashion_mnist": (60_000, 10_000),
        "tiny_imagenet": (100_000, 10_000),
    }
    assert set(IMAGES) == {"digits", "digits32", *published}
    for name, (train, test) in published.items():
        val = train // VALIDATION
        assert IMAGES[name] == (train - val, val, test, 0), name
    assert IMAGES["cifar10"].val == 1000
