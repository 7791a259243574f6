"""What the measures of one model share: each quantity is computed once, by whoever asks first, and kept.

A Context belongs to one process, one model, one set of images and one variant, and holds all it knows in plain sight:
nothing is global. A measure that declares "context" gives the same value with a fresh one.

Memory: what there is per image (logits, input gradients, ...) is kept while all of it together stays below BUDGET bytes
for each model, whatever the number of images; beyond that it is computed again, batch by batch, for each who asks. What
has the size of the weights (gradient of the mean loss, matrices) is kept once.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robustgap.measures._weights import matrices, mean_loss_gradient
from robustgap.measures.core import Batch, Missing
from robustgap.training.attacks import cross_entropy, input_gradient

BUDGET = 2**28  # bytes of everything there is per image


class Context:
    """The shared quantities of one model on one set of images, in one variant.

    batches: the evaluation batches of the variant, in the order of the images.
    clean: the context of the same images before any attack (for the clean one: itself).
    """

    def __init__(self, model: nn.Module, batches: Sequence[Batch], clean: "Context | None" = None):
        self.model, self.batches, self.clean = model, list(batches), clean or self
        self._kept: dict[Hashable, Any] = {}
        self._reasons: dict[Hashable, str] = {}
        self._left = BUDGET
        self._own = {(id(batch.images), id(batch.labels)): place for place, batch in enumerate(self.batches)}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returns, called for the first who asks for `key`; a Missing that it raises is raised for all.

        For what there is once per model and variant, no larger than the weights.
        """
        if key in self._reasons:
            raise Missing(self._reasons[key])
        if key not in self._kept:
            try:
                self._kept[key] = make()
            except Missing as missing:
                self._reasons[key] = str(missing)
                raise
        return self._kept[key]

    def of_model(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """`once` for what depends on the weights alone: shared by the variants."""
        return self.clean.once(key, make)

    def of_batch(self, name: Hashable, batch: Batch, make: Callable[[], Tensor]) -> Tensor:
        """`once` for a tensor (n, ...) that depends on one batch of this context; kept within the budget.

        For a batch with other images or labels than the context's own nothing is kept.
        """
        place = id(batch.images), id(batch.labels)
        if (name, place) in self._kept:
            return self._kept[name, place]
        found = make()
        if place in self._own and found.nbytes <= self.clean._left:
            self.clean._left -= found.nbytes
            self._kept[name, place] = found
        return found

    def logits(self, batch: Batch) -> Tensor:
        """f(x_i) at batch.images: (n, classes)."""
        return self.of_batch("logits", batch, lambda: self.model(batch.images))

    def clean_logits(self, batch: Batch) -> Tensor:
        """f at batch.clean, the images before any attack: (n, classes); those the clean context keeps, if it can."""
        place = self._own.get((id(batch.images), id(batch.labels)))
        return self.clean.logits(replace(batch, images=batch.clean) if place is None else self.clean.batches[place])

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

        Raises Missing where a weight is not finite, and what `matrices` raises.
        """
        return self.of_model("matrices", lambda: finite(matrices(self.model)))

    def singular_values(self) -> list[Tensor]:
        """Singular values of each of `matrices()`, largest first, in float64."""
        return self.of_model("singular_values", lambda: [torch.linalg.svdvals(m) for m in self.matrices()])


def finite(tensors: list[Tensor], what: str = "weights") -> list[Tensor]:
    """The tensors. Raises Missing unless every entry is finite."""
    bad = sum(not bool(torch.isfinite(tensor).all()) for tensor in tensors)
    if bad:
        raise Missing(f"{bad} of {len(tensors)} layers have {what} that are not finite")
    return tensors
