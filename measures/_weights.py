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
NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter, detached; one shared by several layers comes once."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def logits_at(model: nn.Module, weights: Weights, images: Tensor) -> Tensor:
    """The model's logits at other values of some parameters, by the names of `weights_of`: (n, ...) -> (n, classes)."""
    return functional_call(model, everywhere(model, weights), (images,), tie_weights=False)


def everywhere(model: nn.Module, weights: Weights) -> dict[str, Tensor]:
    """The weights under every place in the model that holds them, each place once.

    (functional_call ties names, not places: a module that is used twice has two names for one place, is exchanged twice
    and given back once, and the model keeps the exchanged tensor.)
    """
    places: dict[int, list[str]] = {}
    for prefix, module in model.named_modules():  # each module once
        for own, parameter in module._parameters.items():
            places.setdefault(id(parameter), []).append(f"{prefix}.{own}" if prefix else own)
    same = {names[0]: names for names in places.values()}
    return {name: weight for first, weight in weights.items() for name in same[first]}


def losses(model: nn.Module, weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each image at other weights: (n, ...), (n,) -> (n,)."""
    return cross_entropy(logits_at(model, weights, images), labels)


def norm(tensors: Weights) -> float:
    """L2 norm of all entries of all tensors together."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))


def mean_loss_gradient(model: nn.Module, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Gradient with respect to every parameter of the mean cross-entropy over all images of all batches."""
    weights = {name: weight.requires_grad_(True) for name, weight in weights_of(model).items()}
    if not weights:
        raise Missing("the model has no parameters")
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for batch in batches:
        with torch.enable_grad():
            loss = losses(model, weights, batch.images, batch.labels).sum()
            found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, found, strict=True):
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
    """A layer of the same kind with this weight and bias, whatever hooks or parametrizations (spectral_norm,
    weight_norm) compute in the other. The other is left as it is: torch's own way of removing a parametrization takes
    the weight from every copy of a layer."""
    kind: Any = type(layer).__mro__[1] if is_parametrized(layer) else type(layer)
    plain = kind.__new__(kind)
    vars(plain).update({key: value for key, value in vars(layer).items() if key != "weight"})
    vars(plain)["_parameters"] = {"weight": weight, "bias": bias}
    vars(plain)["_modules"] = {key: part for key, part in layer._modules.items() if key != "parametrizations"}
    return plain


def matrices(model: nn.Module, weights: Weights | None = None) -> list[Tensor]:
    """The weight of every linear layer and convolution as a float64 matrix (outputs, inputs * kernel size).

    weights: other values of the weights, by name, as in a state dictionary; default: the model's own.
    A normalisation layer is not folded in, a bias is left out. A weight that several layers share comes once for each,
    as it acts in each (num_params counts it once); a layer that is used several times comes once. Raises Missing for a
    parameter of two or more dimensions that belongs to neither (an attention or embedding matrix), because leaving it
    out would go unseen, and where `weights` lacks the weight of a layer, because it is computed from others.
    """
    found = []
    for prefix, module in model.named_modules():
        name = f"{prefix}.weight" if prefix else "weight"
        if isinstance(module, LINEAR + TRANSPOSED):
            if weights is not None and name not in weights:
                raise Missing(f"parametrized layers: {name} is computed from other weights (weight_norm, pruning ...)")
            weight = (module.weight if weights is None else weights[name]).detach().double()
            found.append((weight.transpose(0, 1) if isinstance(module, TRANSPOSED) else weight).flatten(1))
        elif not isinstance(module, (*NORMALIZATIONS, ParametrizationList)):  # these make the weight of their layer
            for own, parameter in module.named_parameters(recurse=False):
                if parameter.dim() >= 2:
                    kind = f"{prefix or 'the model'} ({type(module).__name__})"
                    raise Missing(f"{kind} is no linear layer or convolution: no matrix for its parameter {own}")
    if not found:
        raise Missing("the model has no linear layer or convolution")
    return found
