from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustgap.measures._state import removed_afterwards
from robustgap.measures._weights import BATCHNORM, LINEAR, TRANSPOSED
from robustgap.measures.core import Missing, measure

SCALES = (1.0, 1e-8, 1e-4, 1e4, 1e8)  # of the images on which homogeneity is tested; the first is the reference


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

    Biases are not on a path and are left out. BatchNorm is the map that it is in eval mode, x -> scale x + shift with
    scale = weight / sqrt(running_var + eps): the scale is squared, the shift left out; likewise for (x - mean) / std of
    the image, with buffers of these names. Published code (Dziugaite et al., NeurIPS 2020; Neyshabur's
    generalization-bounds) folds BatchNorm into the layer listed before it, squares all parameters and runs that
    network: the scale counts as here, but the squares of biases and of folded shifts enter. Neyshabur's takes the root
    of the sum.
    Missing, with the reason, where paths are not defined: a module with parameters of an unknown kind, or a network
    that, so transformed, is not positively homogeneous on images of +-1e-8 to 1e8 (smooth or bounded activations,
    attention, squeeze-and-excitation); and where the network computes in another precision than that of its input.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 44 (Neyshabur et al., NeurIPS 2017). Claim:
    larger means a larger gap (of clean accuracy), so +1.
    """
    weights = squared_weights(model, shape)
    ones = torch.ones(1, *shape, dtype=torch.float64, device=next(iter(weights.values())).device)
    outputs = outputs_at(model, weights, torch.cat([sign * scale * ones for sign in (1, -1) for scale in SCALES]))
    for of_sign in outputs.chunk(2):
        for scale, output in zip(SCALES, of_sign, strict=True):
            finite = output.isfinite() & of_sign[0].isfinite()  # an overflow says nothing about homogeneity
            if not torch.allclose(output[finite], scale * of_sign[0][finite], rtol=1e-9, atol=1e-300):
                raise Missing("with squared weights and no biases the network is not homogeneous: no paths defined")
    return float(outputs[0].sum())


def squared_weights(model: nn.Module, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Parameters and buffers, in float64, of the network whose outputs on an image of ones sum to the path norm."""
    weights: dict[str, Tensor] = {}
    standardizations: list[tuple[str, str]] = []
    for prefix, module in model.named_modules():
        tensors = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        tensors = {name: tensor.detach().double() for name, tensor in tensors.items() if tensor.is_floating_point()}
        dot = f"{prefix}." if prefix else ""
        if type(module) in LINEAR + TRANSPOSED and "weight" in tensors and set(tensors) <= {"weight", "bias"}:
            tensors = {name: tensor.square() if name == "weight" else 0 * tensor for name, tensor in tensors.items()}
        elif type(module) in BATCHNORM and "running_var" in tensors:
            variance = (tensors["running_var"] + module.eps).square() - module.eps
            tensors |= {"running_mean": 0 * tensors["running_mean"], "running_var": variance}
            tensors |= {
                name: tensors[name].square() if name == "weight" else 0 * tensors[name]
                for name in ("weight", "bias") & tensors.keys()
            }
        elif set(tensors) == {"mean", "std"} and all(tensor.numel() in (1, shape[0]) for tensor in tensors.values()):
            standardizations.append((f"{dot}mean", f"{dot}std"))
        elif tensors:
            raise unknown_module(prefix, module)
        weights |= {f"{dot}{name}": tensor for name, tensor in tensors.items()}
    if not weights:
        raise Missing("the model has no parameters")
    for mean, std in standardizations:
        if not standardizes(model, weights, mean, std, shape):
            prefix = mean.rpartition(".")[0]
            raise unknown_module(prefix, model.get_submodule(prefix))
        weights |= {mean: 0 * weights[mean], std: weights[std].square()}
    return weights


def unknown_module(prefix: str, module: nn.Module) -> Missing:
    return Missing(f"{prefix or 'the model'} ({type(module).__name__}): how its parameters enter paths is unknown")


def standardizes(model: nn.Module, weights: dict[str, Tensor], mean: str, std: str, shape: tuple[int, ...]) -> bool:
    """Whether the network takes the image x as (x - mean) / std, channel by channel: then its output on the image
    mean + std is that on an image of ones with mean 0 and std 1."""
    per_channel = (1, -1, *[1] * (len(shape) - 1))
    image = (weights[mean].reshape(per_channel) + weights[std].reshape(per_channel)).expand(1, *shape)
    without = weights | {mean: torch.zeros_like(weights[mean]), std: torch.ones_like(weights[std])}
    expected = outputs_at(model, without, torch.ones_like(image))
    return torch.allclose(outputs_at(model, weights, image), expected, rtol=1e-9, atol=0.0, equal_nan=True)


def outputs_at(model: nn.Module, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """The outputs of the network at these weights, in float64: (n, c, h, w) -> (n, classes). Raises Missing where it
    casts its input to another type."""

    def check(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(inputs[0], Tensor) and inputs[0].dtype != torch.float64:
            raise Missing(f"the network computes in {inputs[0].dtype} whatever its input, wanted torch.float64")

    layers = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    handles = [module.register_forward_pre_hook(check) for module in layers]
    with removed_afterwards(handles):
        outputs: Tensor = functional_call(model, weights, (images,), tie_weights=False)
    check(model, (outputs,))
    return outputs
