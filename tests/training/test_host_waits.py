"""No step of training makes the host wait for the device.

Seen on a CPU by the operations that hand a number, or a size that depends on one, to Python, or carry one over: on a
GPU each of them waits until the device has done all that it was given.
"""

import pytest
import torch
from small_runs import settings_of
from torch.utils._python_dispatch import TorchDispatchMode

from robustgap.training.carried_state import begin
from robustgap.training.data.batches import batches
from robustgap.training.data.datasets import load
from robustgap.training.defenses import DEFENSES
from robustgap.training.jobs.run import make_optimizer
from robustgap.training.networks.architectures import build
from robustgap.training.step import train_step

WAIT = ("_local_scalar_dense", "nonzero", "masked_select", "masked_scatter", "is_nonzero", "equal", "lift_fresh")
INDEXING = ("index", "index_put", "index_put_")  # with a mask: by way of nonzero
OTHERS = [
    {"norm": "L2", "eps": "1/2"},
    {"awp": True},
    {"sam": "SAM"},
    {"sam": "ASAM"},
    {"grad_align": 0.2},
    {"label_smoothing": 0.1},
    {"ema_decay": 0.99},
    {"augmentation": "crop_flip"},
    {"precision": "bfloat16"},
]


class Waits(TorchDispatchMode):
    """Collects the operations that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation._schema.name.removeprefix("aten::")
        masked = name in INDEXING and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if name in WAIT or masked:
            self.found.append(name)
        return operation(*args, **(kwargs or {}))


def steps(settings: dict) -> list[str]:
    """What waited in three steps of a run."""
    splits, device = load("digits"), torch.device("cpu")
    model = build(settings, splits).train()
    optimizer, carried = make_optimizer(model, settings), begin(settings, model, splits)
    with Waits() as waits:
        for number, batch in enumerate(batches(settings, splits, None, 0, device)):
            train_step(model, optimizer, batch, settings, 0, carried.perturbation)
            carried.after_step(model, settings, number)
            if number == 2:
                break
    return waits.found


@pytest.mark.parametrize("given", [*({"defense": name} for name in DEFENSES), *OTHERS], ids=str)
def test_no_step_waits(given):
    assert steps(settings_of(batch_size=16, **given)) == []


def test_what_waits_is_seen():
    x = torch.arange(3.0)
    with Waits() as waits:
        float(x.sum())
        x[x > 1]
        torch.tensor([1.0])
    assert {"_local_scalar_dense", "index", "lift_fresh"} <= set(waits.found)
