import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustgap.measures._weights import LINEAR, TRANSPOSED
from robustgap.measures.core import Missing, measure

BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
SCALES = (1.0, 1e-8, 1e-4, 1e4, 1e8)  # of the images on which homogeneity is tested, the first the reference


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
    scale = weight / sqrt(running_var + eps): the scale is squared, the shift left out; likewise (x - mean) / std of
    the image, by buffers of these names. Published code (Dziugaite et al., NeurIPS 2020; Neyshabur's
    generalization-bounds) folds BatchNorm into the layer listed before it, squares all parameters and runs that
    network: the scale counts as here, but the squares of biases and of folded shifts enter. Neyshabur's takes the root
    of the sum.
    Missing, with the reason, where paths are not defined: a module with parameters of an unknown kind, or a network
    that, so transformed, is not positively homogeneous on images of +-1e-8 to 1e8 (smooth or bounded activations,
    attention, squeeze-and-excitation); and where the network computes in another precision than it is given.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 44 (Neyshabur et al., NeurIPS 2017). Claim:
    larger means a larger gap (of clean accuracy), so +1.
    """
    weights = squared(model, shape)
    ones = torch.ones(1, *shape, dtype=torch.float64, device=next(iter(weights.values())).device)
    found = outputs(model, weights, torch.cat([sign * scale * ones for sign in (1, -1) for scale in SCALES]))
    for side in found.chunk(2):
        for scale, output in zip(SCALES, side, strict=True):
            there = output.isfinite() & side[0].isfinite()  # where the network overflows it says nothing
            if not torch.allclose(output[there], scale * side[0][there], rtol=1e-9, atol=1e-300):
                raise Missing("with squared weights and no biases the network is not homogeneous: no paths defined")
    return float(found[0].sum())


def squared(model: nn.Module, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Parameters and buffers, in float64, of the network whose outputs on ones sum to the path norm."""
    found: dict[str, Tensor] = {}
    standards: list[tuple[str, str]] = []
    for prefix, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        own = {name: tensor.detach().double() for name, tensor in own.items() if tensor.is_floating_point()}
        dot = f"{prefix}." if prefix else ""
        if type(module) in LINEAR + TRANSPOSED and "weight" in own and set(own) <= {"weight", "bias"}:
            own = {name: tensor.square() if name == "weight" else 0 * tensor for name, tensor in own.items()}
        elif type(module) in BATCHNORM and "running_var" in own:
            variance = (own["running_var"] + module.eps).square() - module.eps
            own |= {"running_mean": 0 * own["running_mean"], "running_var": variance}
            own |= {
                name: own[name].square() if name == "weight" else 0 * own[name]
                for name in ("weight", "bias") & own.keys()
            }
        elif set(own) == {"mean", "std"} and all(tensor.numel() in (1, shape[0]) for tensor in own.values()):
            standards.append((f"{dot}mean", f"{dot}std"))
        elif own:
            raise unknown(prefix, module)
        found |= {f"{dot}{name}": tensor for name, tensor in own.items()}
    if not found:
        raise Missing("the model has no parameters")
    for mean, std in standards:
        if not standardizes(model, found, mean, std, shape):
            prefix = mean.rpartition(".")[0]
            raise unknown(prefix, model.get_submodule(prefix))
        found |= {mean: 0 * found[mean], std: found[std].square()}
    return found


def unknown(prefix: str, module: nn.Module) -> Missing:
    return Missing(f"{prefix or 'the model'} ({type(module).__name__}): how its parameters enter paths is unknown")


def standardizes(model: nn.Module, weights: dict[str, Tensor], mean: str, std: str, shape: tuple[int, ...]) -> bool:
    """Whether the network sees the image x as (x - mean) / std, channel by channel: it then maps the image mean + std
    to what it would map an image of ones to with mean 0 and std 1."""
    per_channel = (1, -1, *[1] * (len(shape) - 1))
    image = (weights[mean].reshape(per_channel) + weights[std].reshape(per_channel)).expand(1, *shape)
    without = weights | {mean: torch.zeros_like(weights[mean]), std: torch.ones_like(weights[std])}
    expected = outputs(model, without, torch.ones_like(image))
    return torch.allclose(outputs(model, weights, image), expected, rtol=1e-9, atol=0.0, equal_nan=True)


def outputs(model: nn.Module, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """The network at these weights, in float64: (n, c, h, w) -> (n, classes). Raises Missing where it casts its input
    to another type on the way."""

    def check(module: nn.Module, inputs: tuple) -> None:
        if isinstance(inputs[0], Tensor) and inputs[0].dtype != torch.float64:
            raise Missing(f"the network computes in {inputs[0].dtype} whatever it is given, wanted torch.float64")

    layers = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    handles = [module.register_forward_pre_hook(check) for module in layers]
    try:
        found = functional_call(model, weights, (images,), tie_weights=False)
    finally:
        for handle in handles:
            handle.remove()
    check(model, (found,))
    return found
