"""Image classifiers, found by name in ARCHITECTURES. One file per family.

Contract: `f(num_classes, in_channels, *, width, image_size, activation) -> Module` that maps images to logits; `build`
puts the normalisation in front, so that models take images in [0, 1]. width 0 is the architecture's own.
"""

import torch
from torch import nn

from robustgap.training.checkpoint import Shapes, shapes_of
from robustgap.training.data.splits import Splits
from robustgap.training.networks.architectures.common import ACTIVATIONS, ARCHITECTURES, Normalize
from robustgap.training.settings import Settings

__all__ = ["ACTIVATIONS", "ARCHITECTURES", "Normalize", "build", "shapes"]

ARCHITECTURES.load()


def build(settings: Settings, splits: Splits) -> nn.Module:
    """The network of a run with freshly drawn weights, a function of the run's seed alone (torch's generator is put
    back afterwards). Raises LookupError for an unknown architecture or activation."""
    architecture = ARCHITECTURES[settings["architecture"]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(settings["seed"]))
        network = architecture(
            splits.num_classes,
            splits.channels,
            width=int(settings["width"]),
            image_size=splits.size,
            activation=settings["activation"],
        )
    return nn.Sequential(Normalize(splits.mean, splits.std), network)


def shapes(settings: Settings, splits: Splits) -> Shapes:
    """Names and shapes of the parameters and buffers of a run's network, without allocating them."""
    with torch.device("meta"):
        return shapes_of(build(settings, splits).state_dict())
