"""The weights of a model as a dictionary, the loss as a function of them, and its gradient. No model is modified."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from robustgap.measures.core import Batch, Missing
from robustgap.training.attacks import cross_entropy

Weights = Mapping[str, Tensor]
LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def detached_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter by name, detached; one that several layers share appears once."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def logits_at(model: nn.Module, weights: Weights, images: Tensor) -> Tensor:
    """The logits (n, classes) at other values of some parameters, which are named as in `detached_parameters`."""
    logits: Tensor = functional_call(model, under_all_names(model, weights), (images,), tie_weights=False)
    return logits


def under_all_names(model: nn.Module, weights: Weights) -> dict[str, Tensor]:
    """The weights under the names of all modules that hold them, one name for each module.

    (functional_call ties names, not modules: a module that is used twice has two names, its parameter is exchanged
    twice and restored once, and the model keeps the exchanged tensor.)
    """
    names_of: dict[int, list[str]] = {}
    for prefix, module in model.named_modules():  # each module once
        for attribute, parameter in module._parameters.items():
            names_of.setdefault(id(parameter), []).append(f"{prefix}.{attribute}" if prefix else attribute)
    by_first_name = {names[0]: names for names in names_of.values()}
    return {name: weight for first, weight in weights.items() for name in by_first_name[first]}


def losses(model: nn.Module, weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each image at other weights: (n, ...), (n,) -> (n,)."""
    return cross_entropy(logits_at(model, weights, images), labels)


def norm(tensors: Weights) -> float:
    """L2 norm of all entries of all tensors together."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))


def mean_loss_gradient(model: nn.Module, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Gradient with respect to every parameter of the mean cross-entropy over all images of all batches."""
    weights = {name: weight.requires_grad_(True) for name, weight in detached_parameters(model).items()}
    if not weights:
        raise Missing("the model has no parameters")
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for batch in batches:
        with torch.enable_grad():
            loss = losses(model, weights, batch.images, batch.labels).sum()
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient
    n = sum(len(batch.images) for batch in batches)
    return {name: gradient / n for name, gradient in total.items()}


def normalization_parameters(model: nn.Module) -> set[str]:
    """Names of the scales and shifts that belong to a normalisation layer (BatchNorm, GroupNorm, LayerNorm ...)."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, NORMALIZATIONS)
        for name, _ in module.named_parameters(recurse=False)
    }


def plain_layer(layer: Any, weight: Tensor, bias: Tensor | None) -> Any:
    """A layer of the same kind with this weight and bias, without the hooks and parametrizations (spectral_norm,
    weight_norm) of the original, which is left unchanged: torch's own way of removing a parametrization takes the
    weight from every copy of a layer."""
    kind: Any = type(layer).__mro__[1] if is_parametrized(layer) else type(layer)
    plain = kind.__new__(kind)
    vars(plain).update({key: value for key, value in vars(layer).items() if key != "weight"})
    vars(plain)["_parameters"] = {"weight": weight, "bias": bias}
    vars(plain)["_modules"] = {key: child for key, child in layer._modules.items() if key != "parametrizations"}
    return plain


def matrices(model: nn.Module, weights: Weights | None = None) -> list[Tensor]:
    """The weight of every linear layer and convolution as a float64 matrix (outputs, inputs * kernel size).

    weights: other values of the weights, by name, as in a state dictionary; default: the model's own.
    Normalisation layers are not folded in, biases are left out. A weight that several layers share appears once for
    each, because it acts in each (num_params counts it once); a layer that is used several times appears once.
    Raises Missing for a parameter of two or more dimensions of another kind of layer (an attention or embedding
    matrix), because leaving it out would go unnoticed, and where `weights` lacks the weight of a layer, because that is
    computed from others.
    """
    layer_matrices = []
    for prefix, module in model.named_modules():
        name = f"{prefix}.weight" if prefix else "weight"
        if isinstance(module, LINEAR + TRANSPOSED):
            if weights is not None and name not in weights:
                raise Missing(f"parametrized layers: {name} is computed from other weights (weight_norm, pruning ...)")
            weight = (module.weight if weights is None else weights[name]).detach().double()
            layer_matrices.append((weight.transpose(0, 1) if isinstance(module, TRANSPOSED) else weight).flatten(1))
        elif not isinstance(module, (*NORMALIZATIONS, ParametrizationList)):  # these compute the weight of their layer
            for attribute, parameter in module.named_parameters(recurse=False):
                if parameter.dim() >= 2:
                    label = f"{prefix or 'the model'} ({type(module).__name__})"
                    raise Missing(f"{label} is no linear layer or convolution: no matrix for its parameter {attribute}")
    if not layer_matrices:
        raise Missing("the model has no linear layer or convolution")
    return layer_matrices
