"""A network whose BatchNorms are folded into the layers before them, where its graph allows it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from robustgap.measures._context import Context, finite
from robustgap.measures._state import removed_afterwards
from robustgap.measures._weights import BATCHNORM, LINEAR, TRANSPOSED, Weights, matrices, plain_layer
from robustgap.measures.core import Missing


def folded(model: nn.Module, shape: tuple[int, ...], context: Context) -> Context:
    """The context of the model with BatchNorm folded in, on no images. Raises as `folded_network` does."""
    return context.of_model("folded", lambda: Context(folded_network(model, shape), []))


def folded_network(model: nn.Module, shape: tuple[int, ...], initial: Weights | None = None) -> nn.Module:
    """A float64 copy of the same function without BatchNorm: W <- diag(scale / sqrt(running_var + eps)) W.

    initial: a state dictionary to take weights and statistics from; default: the model's own.
    Raises Missing, naming the module, for a BatchNorm whose input is not the output of a convolution or linear layer of
    its own (pre-activation networks), where the folded network is another function, and as `matrices` does.
    """
    finite(matrices(model, initial))  # raises where there are weights of another kind
    with torch.no_grad():
        network = copy.deepcopy(model).double()
        if initial is not None:
            network.load_state_dict(dict(initial), strict=False)
        image = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        image = image.to(next(network.parameters()).device)
        layers: list[tuple[str, Any]] = [(n, layer) for n, layer in network.named_modules() if is_parametrized(layer)]
        for name, layer in layers:
            bias = None if layer.bias is None else nn.Parameter(layer.bias)
            replace_module(network, name, plain_layer(layer, nn.Parameter(layer.weight), bias))
        wanted, pairs = trace_batchnorms(network, image)
        for name, (layer, norm) in pairs.items():
            fuse = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
            options: dict[str, Any] = {"transpose": True} if isinstance(layer, TRANSPOSED) else {}
            fused = fuse(layer, norm, **options)
            layer.weight, layer.bias = fused.weight, fused.bias
            replace_module(network, name, nn.Identity())
        if pairs and not torch.allclose(network(image), wanted, rtol=1e-6, atol=1e-9):
            raise Missing("with BatchNorm folded into the layers before it the network is another function")
    return network


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where the submodule of that dotted name is."""
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, module)


def trace_batchnorms(network: nn.Module, image: Tensor) -> tuple[Tensor, dict[str, tuple[Any, Any]]]:
    """The logits, and the layer before each BatchNorm: {name of the BatchNorm: (layer, BatchNorm)}."""
    outputs: list[tuple[Tensor, nn.Module]] = []  # kept alive, so that no other tensor gets their identity
    pairs: dict[str, tuple[Any, Any]] = {}
    names = {module: name for name, module in network.named_modules()}

    def record_output(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        outputs.append((output, layer))

    def pair(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        before = [layer for output, layer in outputs if output is inputs[0]]
        taken = [layer for layer, _ in pairs.values()]
        if not before or before[0] in taken or names[norm] in pairs:
            label = f"{names[norm]} ({type(norm).__name__})"
            raise Missing(f"{label} follows no convolution or linear layer of its own: it cannot be folded")
        pairs[names[norm]] = before[0], norm

    handles = []
    for module in network.modules():
        if isinstance(module, LINEAR + TRANSPOSED):
            handles.append(module.register_forward_hook(record_output))
        elif isinstance(module, BATCHNORM):
            handles.append(module.register_forward_pre_hook(pair))
    with removed_afterwards(handles):
        return network(image), pairs
