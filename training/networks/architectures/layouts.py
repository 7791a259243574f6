"""Loads public checkpoints into the networks here: wrappers are removed, names translated.

Known wrappers: the state inside `state_dict`, `model_state_dict`, `model`, `net` or `last`; the prefixes `module.`
(DataParallel), `model.`, `net.`, `0.` (nn.Sequential) and `_orig_mod.` (torch.compile), nested in any order; a
normalisation layer beside or before the network, whose mean and std are kept. Known names: those of pytorch-cifar,
torchvision, TRADES' code and, for wide ResNets, DeepMind's (Gowal et al., arXiv:2010.03593). Files are read with
weights_only=True.
"""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustgap.training.checkpoint import FileFault
from robustgap.training.networks.architectures.common import ARCHITECTURES, Normalize
from robustgap.training.networks.architectures.preact import WideResNet

CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "last")
PREFIXES = ("module.", "model.", "net.", "_orig_mod.", "0.", "1.")  # 1.: the network behind a normalisation layer
MEANS, STDS = ("mean", "mu"), ("std", "sigma")
UNUSED = ("sub_block1.",)  # TRADES' code builds this stage and never calls it
RENAMED = {"convShortcut.": "shortcut.0.", "downsample.": "shortcut."}
DEEPMIND_NAMES = {  # part of a name by part of a name
    "init_conv": "conv1",
    "batchnorm_0": "bn1",
    "conv_0": "conv1",
    "batchnorm_1": "bn2",
    "conv_1": "conv2",
    "shortcut": "shortcut.0",
    "batchnorm": "bn1",
    "logits": "fc",
}


def unwrapped(checkpoint: Any) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, without prefixes that all its keys share.

    Raises ValueError when there is none.
    """
    state = checkpoint
    while isinstance(state, dict) and not all(isinstance(value, Tensor) for value in state.values()):
        inner = [key for key in CONTAINERS if isinstance(state.get(key), dict)]
        if not inner:
            keys = ", ".join(map(str, list(state)[:8]))
            raise ValueError(f"found keys {keys}, wanted tensors by name or one of {', '.join(CONTAINERS)}")
        state = state[inner[0]]
    if not isinstance(state, dict) or not state:
        raise ValueError(f"found {type(checkpoint).__name__} without tensors, wanted a state dict")
    if not _weights(state):
        raise ValueError(f"found {', '.join(state)} alone, wanted the weights of a network")
    while prefix := _shared_prefix(state):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _weights(state: dict[str, Tensor]) -> list[str]:
    """All keys but those of the normalisation."""
    return [key for key in state if key.rpartition(".")[2] not in (*MEANS, *STDS)]


def _shared_prefix(state: dict[str, Tensor]) -> str:
    """The known prefix that all keys but those of the normalisation have, or ''."""
    weights = _weights(state)
    return next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in weights)), "")


def _constant(state: dict[str, Tensor], names: tuple[str, ...]) -> list[float] | None:
    """The normalisation constant stored under one of the names, at any depth."""
    values = [value for key, value in state.items() if key.rpartition(".")[2] in names]
    return values[0].flatten().tolist() if values else None


def translated(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a public state dict, renamed to fit the state dict `wanted` of a network here.

    Raises ValueError, on one line, for entries that are missing, left over or of another shape.
    """
    heads = {"linear.": "fc."} if "fc.weight" in wanted else {"fc.": "linear."}
    renamed = {}
    for key, value in state.items():
        if key.rpartition(".")[2] in (*MEANS, *STDS) or key.startswith(UNUSED):
            continue
        for theirs, ours in {**RENAMED, **heads}.items():
            key = key.replace(theirs, ours) if f".{theirs}" in f".{key}" else key
        renamed[key] = value
    missing = [key for key in wanted if key not in renamed and not key.endswith("num_batches_tracked")]
    extra = [key for key in renamed if key not in wanted]
    shapes = [key for key in wanted if key in renamed and renamed[key].shape != wanted[key].shape]
    if missing or extra or shapes:
        faults = [
            f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for what, keys in (("missing", missing), ("left over", extra), ("of another shape", shapes))
            if keys
        ]
        raise ValueError(f"does not fit: {'; '.join(faults)}")
    return {key: renamed.get(key, value) for key, value in wanted.items()}


def _from_deepmind(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of a wide ResNet of DeepMind's code under the names of ours."""
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"^layer\.(\d)\.block\.", lambda stage: f"block{int(stage[1]) + 1}.layer.", key)
        renamed[".".join(DEEPMIND_NAMES.get(part, part) for part in key.split("."))] = value
    return renamed


def _pad_as_deepmind(network: WideResNet) -> None:
    """Pad convolutions of stride 2 on an even size as TensorFlow's SAME does: one more row and column of zeros at the
    end, none at the beginning. With the same weights this is another function than that of our networks."""
    for stage in (network.block2, network.block3):
        block = stage.layer[0]
        assert isinstance(block.conv1, nn.Conv2d)
        block.conv1.padding = (0, 0)
        block.conv1 = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), block.conv1)


def load_public(
    file: Path,
    architecture: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: int = 0,
    activation: str = "relu",
    mean: list[float] | None = None,
    std: list[float] | None = None,
) -> nn.Module:
    """A public checkpoint as a model in eval mode: images in [0, 1] in, logits out.

    mean, std  of the normalisation, one number per channel; None: those in the file, or none where it has none (files
               of DeepMind's code have none, and need them)

    Raises LookupError for an unknown architecture or activation, FileFault naming the file when it is missing,
    truncated, refused by safe loading, or does not fit the architecture; each message is one line.
    """
    options = {"width": width, "image_size": image_size, "activation": activation}
    network = ARCHITECTURES[architecture](num_classes, in_channels, **options)
    try:
        state = unwrapped(torch.load(file, map_location="cpu", weights_only=True))
        deepmind = "init_conv.weight" in state
        state = _from_deepmind(state) if deepmind else state
        network.load_state_dict(translated(state, network.state_dict()))
    except FileNotFoundError as error:
        raise FileFault(f"{file}: not found; wanted a checkpoint of {architecture}") from error
    except pickle.UnpicklingError as error:
        raise FileFault(f"{file}: refused, wanted tensors and plain containers only") from error
    except Exception as error:  # bytes that are not a checkpoint can raise any exception
        reason = " ".join(str(error).split())[:300]
        raise FileFault(f"{file}: not a checkpoint of {architecture}: {reason}") from error
    mean, std = mean or _constant(state, MEANS), std or _constant(state, STDS)
    if deepmind:
        if mean is None or std is None:
            raise FileFault(f"{file}: found no mean and std, wanted those that DeepMind's code keeps beside its files")
        if image_size != 32:
            raise FileFault(f"{file}: found images of {image_size} x {image_size}, wanted 32 x 32 for DeepMind's code")
        _pad_as_deepmind(network)
    mean, std = mean or [0.0] * in_channels, std or [1.0] * in_channels
    if not len(mean) == len(std) == in_channels:
        raise FileFault(f"{file}: found {len(mean)} means and {len(std)} stds, wanted {in_channels} of each")
    return nn.Sequential(Normalize(torch.tensor(mean), torch.tensor(std)), network).eval()
