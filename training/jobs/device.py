"""Chooses the device of a job."""

import os
import re
import sys

import torch
from torch import nn


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; 'auto' is a GPU if torch finds one, else the CPU. If CUDA_VISIBLE_DEVICES names a GPU
    that torch cannot use, a warning goes to stderr: the job would run for days on the CPU while blocking a GPU node.
    Raises RuntimeError for a name unknown to torch."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if re.match(r"\d|GPU-|MIG-", visible):  # not -1, nor Slurm's NoDevFiles: those hide all GPUs
        reason = (
            "this torch is built without CUDA" if torch.version.cuda is None else "is the driver older than its CUDA?"
        )
        built = f"torch {torch.__version__}"
        print(
            f"warning: found no GPU, though CUDA_VISIBLE_DEVICES is {visible}: CPU used ({built}; {reason})",
            file=sys.stderr,
        )
    return torch.device("cpu")


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's parameters; the CPU for a model without any."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
