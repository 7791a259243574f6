"""The batches of an epoch: labelled images in a keyed order, with extra images if the run has any, augmented."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robustgap.training import keyed
from robustgap.training.data.augment import AUGMENTATIONS
from robustgap.training.data.splits import Split, Splits
from robustgap.training.settings import NA, Settings

ORDER, EXTRA_ORDER, AUGMENT = 100, 200, 300  # keyed streams; each epoch adds 1000


@dataclass
class TrainingBatch:
    """x (n, c, h, w) in [0, 1], augmented; y (n,); index (n,), image ids that key the noise."""

    x: Tensor
    y: Tensor
    index: Tensor


def labelled_share(settings: Settings, extra: Split | None) -> int:
    """Number of labelled images in a full batch: all, or with extra data half (rounded down)."""
    return int(settings["batch_size"]) // (1 if extra is None else 2)


def steps_per_epoch(settings: Settings, splits: Splits, extra: Split | None) -> int:
    """Batches in an epoch, the shorter last one included."""
    return math.ceil(len(splits.train) / labelled_share(settings, extra))


def batches(
    settings: Settings, splits: Splits, extra: Split | None, epoch: int, device: torch.device
) -> Iterator[TrainingBatch]:
    """One pass over the labelled training images. With extra data each batch, the shorter last one too, is half
    labelled, half pseudo-labelled, and the extra pool is cycled through in its own order.

    Where each batch is replayed (m = free_replays), m epochs make one pass in which each batch comes m times in a row:
    an epoch has as many steps as of any other defense, and the replays of its last batch may continue in the next.
    """
    replays = 1 if settings["free_replays"] == NA else int(settings["free_replays"])
    sweep, part = divmod(epoch, replays)
    seed, size, base = int(settings["seed"]), int(settings["batch_size"]), 1000 * (sweep + 1)
    share = labelled_share(settings, extra)
    labelled = torch.split(keyed.permutation(seed, base + ORDER, len(splits.train), device), share)
    pools = [(splits.train, labelled)]
    if extra is not None:
        repeats = math.ceil(len(labelled) * (size - share) / len(extra))
        orders = [keyed.permutation(seed, base + EXTRA_ORDER + r, len(extra), device) for r in range(repeats)]
        added = torch.split(torch.cat(orders), size - share)
        pools.append(
            (
                extra,
                tuple(
                    some[: len(labelled_rows) * (size - share) // share]
                    for some, labelled_rows in zip(added, labelled, strict=False)
                ),
            )
        )
    augment = AUGMENTATIONS[settings["augmentation"]]
    for number in range(part * len(labelled), (part + 1) * len(labelled)):
        step = number // replays
        rows = [(pool, order[step]) for pool, order in pools]
        x = torch.cat([splits.floats(pool.images[r]) for pool, r in rows])
        y = torch.cat([pool.labels[r] for pool, r in rows])
        index = torch.cat([pool.index[r] for pool, r in rows])
        if len(y) > 1:  # BatchNorm needs more than one image for a variance
            yield TrainingBatch(augment(x, index, seed, base + AUGMENT), y, index)
