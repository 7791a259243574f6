import torch
from torch import Tensor, nn
from torch.func import functional_call

from measures._weights import LINEAR, TRANSPOSED
from measures.core import Missing, measure

BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@measure(
    family="norm",
    needs=("shape",),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="sum_k f_{w^2}(1)[k]",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def path_norm(model: nn.Module, shape: tuple[int, ...]) -> float:
    """Sum over all paths from input to output of the product of the squared weights on the path.

        sum_k f_{w^2}(1)[k]:  the sum of the outputs of the network with every weight squared, on an image of ones
        shape (c, h, w) of one image;  no unit, >= 0, in float64 (up to 1e308; missing beyond: 100 ReLU layers of He's
        scale reach 1e31, ResNet-18 whose BatchNorms all amplify as far as their eps allows 1e77)

    Biases are no part of a path and are left out. BatchNorm is the map it is in eval mode, x -> scale x + shift with
    scale = weight / sqrt(running_var + eps): the scale is squared, the shift left out; likewise (x - mean) / std in
    front of the network. Published code squares the parameters and then runs the network as it is, so that squared
    biases and running means enter and BatchNorm divides by one standard deviation instead of by the variance.
    Missing, with the reason, where paths are not defined: a module with parameters of an unknown kind, or a network
    that, so transformed, is not positively homogeneous (smooth activations, attention, squeeze-and-excitation).
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 44 (Neyshabur et al., NeurIPS 2017). Claim:
    larger means a larger gap (of clean accuracy), so +1.
    """
    weights = squared(model, shape)
    ones = torch.ones(1, *shape, dtype=torch.float64, device=next(iter(weights.values())).device)
    once, twice = functional_call(model, weights, (ones,)), functional_call(model, weights, (2 * ones,))
    if not torch.allclose(twice, 2 * once, rtol=1e-9, atol=0.0, equal_nan=True):
        raise Missing("with squared weights and no biases the network is not homogeneous, so paths are not defined")
    return float(once.sum())


def squared(model: nn.Module, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Parameters and buffers, in float64, of the network whose outputs on ones sum to the path norm."""
    found: dict[str, Tensor] = {}
    for prefix, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        own = {name: tensor.detach().double() for name, tensor in own.items() if tensor.is_floating_point()}
        if type(module) in LINEAR + TRANSPOSED and "weight" in own and set(own) <= {"weight", "bias"}:
            own = {name: tensor.square() if name == "weight" else 0 * tensor for name, tensor in own.items()}
        elif type(module) in BATCHNORM and "running_var" in own:
            variance = (own["running_var"] + module.eps).square() - module.eps
            own |= {"running_mean": 0 * own["running_mean"], "running_var": variance}
            own |= {
                name: own[name].square() if name == "weight" else 0 * own[name]
                for name in ("weight", "bias") & own.keys()
            }
        elif set(own) == {"mean", "std"} and standardizes(module, shape):
            own = {"mean": 0 * own["mean"], "std": own["std"].square()}
        elif own:
            raise Missing(
                f"{prefix or 'the model'} ({type(module).__name__}): how its parameters enter paths is unknown"
            )
        found |= {f"{prefix}.{name}" if prefix else name: tensor for name, tensor in own.items()}
    if not found:
        raise Missing("the model has no parameters")
    return found


def standardizes(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the module maps an image x to (x - mean) / std, channel by channel."""
    per_channel = (1, -1, *[1] * (len(shape) - 1))
    mean, std = module.get_buffer("mean").reshape(per_channel), module.get_buffer("std").reshape(per_channel)
    ones = torch.ones(1, *shape, dtype=mean.dtype, device=mean.device)
    return torch.allclose(module(ones), ((ones - mean) / std).expand(1, *shape))
