"""Quantities that the measures of one model share: each is computed on first use and kept.

A Context belongs to one process, one model, one set of images and one variant; nothing is global. A measure that
declares "context" gives the same value with a fresh one.

Memory: per-image quantities (logits, input gradients, ...) are kept while together they stay below BUDGET bytes for
each model, whatever the number of images; beyond that they are computed again, batch by batch, on every use. Quantities
of the size of the weights (gradient of the mean loss, matrices) are always kept.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from robustgap.measures._weights import matrices, mean_loss_gradient
from robustgap.measures.core import Batch, Missing
from robustgap.training.attacks import cross_entropy, input_gradient

BUDGET = 2**28  # bytes of all per-image quantities

T = TypeVar("T")


class Context:
    """The shared quantities of one model on one set of images, in one variant.

    batches: the evaluation batches of the variant, in the order of the images.
    clean: the context of the same images before any attack (for the clean one: itself).
    """

    def __init__(self, model: nn.Module, batches: Sequence[Batch], clean: "Context | None" = None):
        self.model, self.batches, self.clean = model, list(batches), clean or self
        self._cache: dict[Hashable, Any] = {}
        self._reasons: dict[Hashable, str] = {}
        self._budget_left = BUDGET
        self._position = {(id(batch.images), id(batch.labels)): k for k, batch in enumerate(self.batches)}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result of `make`, which is called on the first use of `key`; a Missing it raises is raised on every use.

        For quantities that exist once per model and variant and are no larger than the weights.
        """
        if key in self._reasons:
            raise Missing(self._reasons[key])
        if key not in self._cache:
            try:
                self._cache[key] = make()
            except Missing as missing:
                self._reasons[key] = str(missing)
                raise
        result: T = self._cache[key]
        return result

    def of_model(self, key: Hashable, make: Callable[[], T]) -> T:
        """`once` for quantities of the weights alone, which the variants share."""
        return self.clean.once(key, make)

    def of_batch(self, name: Hashable, batch: Batch, make: Callable[[], Tensor]) -> Tensor:
        """`once` for a tensor (n, ...) of one batch of this context; kept within the budget.

        Nothing is kept for a batch with other images or labels than those of the context.
        """
        identity = id(batch.images), id(batch.labels)
        if (name, identity) in self._cache:
            cached: Tensor = self._cache[name, identity]
            return cached
        tensor = make()
        if identity in self._position and tensor.nbytes <= self.clean._budget_left:
            self.clean._budget_left -= tensor.nbytes
            self._cache[name, identity] = tensor
        return tensor

    def logits(self, batch: Batch) -> Tensor:
        """f(x_i) at batch.images: (n, classes)."""
        return self.of_batch("logits", batch, lambda: self.model(batch.images))

    def clean_logits(self, batch: Batch) -> Tensor:
        """f at batch.clean, the images before any attack: (n, classes); shared with the clean context."""
        k = self._position.get((id(batch.images), id(batch.labels)))
        return self.clean.logits(replace(batch, images=batch.clean) if k is None else self.clean.batches[k])

    def losses(self, batch: Batch) -> Tensor:
        """Cross-entropy of each image at batch.images: (n,), in nats."""
        return cross_entropy(self.logits(batch), batch.labels)

    def input_gradient(self, batch: Batch) -> Tensor:
        """Gradient of each image's cross-entropy at batch.images: (n, c, h, w)."""
        return self.of_batch("input_gradient", batch, lambda: input_gradient(self.model, batch.images, batch.labels))

    def mean_loss_gradient(self) -> dict[str, Tensor]:
        """Gradient with respect to every parameter of the mean cross-entropy over all images of the variant."""
        return self.once("mean_loss_gradient", lambda: mean_loss_gradient(self.model, self.batches))

    def matrices(self) -> list[Tensor]:
        """The weight of every linear layer and convolution as a float64 matrix (see measures/_weights.py).

        Raises Missing where a weight is not finite, and as `matrices` does.
        """
        return self.of_model("matrices", lambda: finite(matrices(self.model)))

    def singular_values(self) -> list[Tensor]:
        """Singular values of each of `matrices()`, largest first, in float64."""
        return self.of_model("singular_values", lambda: [torch.linalg.svdvals(m) for m in self.matrices()])


def finite(tensors: list[Tensor], what: str = "weights") -> list[Tensor]:
    """The tensors. Raises Missing unless every entry is finite."""
    if bad := sum(not bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise Missing(f"{bad} of {len(tensors)} layers have {what} that are not finite")
    return tensors
