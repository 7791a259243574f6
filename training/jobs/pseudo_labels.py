"""Extra images of a run, and pseudo-labels for a data set's own pool.

As in semi-supervised adversarial training (Carmon et al., NeurIPS 2019), a model from standard training labels the
images; their true labels are never read.
"""

from pathlib import Path

import torch

from robustgap.training import loop
from robustgap.training.checkpoint import FileFault, load_tensors, save_tensors
from robustgap.training.data.extra_sets import load_extra_set
from robustgap.training.data.splits import Split, Splits
from robustgap.training.jobs.damage import mark
from robustgap.training.jobs.plan import data_dir
from robustgap.training.jobs.run import make_optimizer, splits_on_device
from robustgap.training.modes import evaluating
from robustgap.training.networks.architectures import build
from robustgap.training.settings import StudyFile, complete

# The teacher defines `extra_data: pool`, so it is frozen like the defaults.
TEACHER = {"defense": "Standard", "architecture": "cnn", "epochs": 30, "augmentation": "crop", "eps": 0, "seed": 0}


def pseudo_label(splits: Splits, device: torch.device) -> Split:
    """The extra pool labelled with the teacher's predictions. Raises ValueError if the data set has no pool."""
    if splits.extra is None:
        raise ValueError(f"extra_data: found pool, but data set {splits.name} has no extra images; wanted none")
    settings = complete({**TEACHER, "data": splits.name})
    teacher = build(settings, splits).to(device)
    optimizer, progress = make_optimizer(teacher, settings), loop.Progress()
    loop.train(teacher, optimizer, splits_on_device(splits, device), None, settings, progress, None, lambda _: None)
    images = splits.floats(splits.extra.images).to(device)
    with evaluating(teacher), torch.no_grad():
        labels = torch.cat([teacher(batch).argmax(1) for batch in torch.split(images, 512)])
    return Split(splits.extra.images, labels.cpu(), splits.extra.index)


def extra_images(name: str, splits: Splits, study: StudyFile, results: Path) -> Split | None:
    """The images selected by the setting extra_data: nothing, the pseudo-labelled pool, or a published set.

    Raises what `load_extra` and `load_extra_set` raise; damaged pseudo-labels also mark the data job to run again.
    """
    if name == "none":
        return None
    if name == "pool":
        try:
            return load_extra(results / "data" / "extra.safetensors", splits)
        except FileFault as error:
            mark(results / "data" / "splits.json")
            raise FileFault(f"{error}: run again, and it is made anew") from error
    return load_extra_set(name, splits, data_dir(study), study.get("extra_sha256", {}).get(name, ""))


def save_extra(path: Path, extra: Split) -> None:
    save_tensors(path, {"labels": extra.labels, "index": extra.index})


def load_extra(path: Path, splits: Splits) -> Split:
    """Load pseudo-labels. Raises FileFault if they do not belong to this data set's pool."""
    tensors, _ = load_tensors(path)
    if splits.extra is None or not torch.equal(tensors["index"], splits.extra.index):
        raise FileFault(f"{path}: pseudo-labels of other images than the extra pool of {splits.name}")
    return Split(splits.extra.images, tensors["labels"], splits.extra.index)
