"""What the measures of one model share: each quantity is computed once, by whoever asks first, and kept.

A Context belongs to one process, one model, one set of images and one variant, and holds all it knows in plain sight:
nothing is global. A measure that declares "context" gives the same value with a fresh one.

Memory: what has the size of logits or of the weights is kept. What has the size of images (input gradients, n * d
numbers) is kept while all of it together stays below BUDGET bytes for each model; beyond that it is computed again,
batch by batch, for each who asks.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from measures._margin import margin, percentile
from measures._weights import matrices, mean_loss_gradient
from measures.core import Batch, Missing
from training.attacks import cross_entropy, input_gradient

BUDGET = 2**28  # bytes of tensors of the size of images


class Context:
    """The shared quantities of one model on one set of images, in one variant.

    batches: the evaluation batches of the variant, in the order of the images (none for the variant 'none').
    clean: the context of the clean images, which the other variants can ask (None: this is it).
    """

    def __init__(self, model: nn.Module, batches: Sequence[Batch], clean: "Context | None" = None):
        self.model, self.batches, self.clean = model, list(batches), clean or self
        self._kept: dict[Hashable, Any] = {}
        self._bytes = 0
        self._known = {(id(batch.images), id(batch.labels)) for batch in self.batches}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returns, called for the first who asks for `key`; a Missing that it raises is kept as well."""
        if key not in self._kept:
            try:
                self._kept[key] = make()
            except Missing as missing:
                self._kept[key] = missing
        found = self._kept[key]
        if isinstance(found, Missing):
            raise found
        return found

    def of_model(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """`once` for what depends on the weights alone: shared between the variants."""
        return self.clean.once(key, make)

    def _of_batch(self, name: str, batch: Batch, make: Callable[[], Tensor]) -> Tensor:
        """`once` for one of the context's own batches; any other batch (other images) is computed and not kept."""
        key = id(batch.images), id(batch.labels)
        return self.once((name, key), make) if key in self._known else make()

    def logits(self, batch: Batch) -> Tensor:
        """f(x_i) at batch.images: (n, classes)."""
        return self._of_batch("logits", batch, lambda: self.model(batch.images))

    def losses(self, batch: Batch) -> Tensor:
        """Cross-entropy of each image at batch.images: (n,), in nats."""
        return cross_entropy(self.logits(batch), batch.labels)

    def input_gradient(self, batch: Batch) -> Tensor:
        """Gradient of each image's cross-entropy at batch.images: (n, c, h, w)."""
        size = batch.images.nbytes
        key = "input_gradient", (id(batch.images), id(batch.labels))
        if key not in self._kept and self.clean._bytes + size > BUDGET:
            return input_gradient(self.model, batch.images, batch.labels)
        if key not in self._kept:
            self.clean._bytes += size
        return self._of_batch("input_gradient", batch, lambda: input_gradient(self.model, batch.images, batch.labels))

    def mean_loss_gradient(self) -> dict[str, Tensor]:
        """Gradient with respect to every parameter of the mean cross-entropy over all images of the variant."""
        return self.once("mean_loss_gradient", lambda: mean_loss_gradient(self.model, self.batches))

    def percentile_margin(self, q: float = 0.1) -> float:
        """The q-quantile over all images of the logit margin f(x_i)[y_i] - max_{k != y_i} f(x_i)[k]."""
        margins = torch.cat([margin(self.logits(batch), batch.labels) for batch in self.batches])
        return percentile(margins.double(), q)[0]

    def matrices(self) -> list[Tensor]:
        """The weight of every linear layer and convolution as a float64 matrix (see measures/_weights.py)."""
        return self.of_model("matrices", lambda: matrices(self.model))

    def singular_values(self) -> list[Tensor]:
        """Singular values of each of `matrices()`, largest first, in float64."""
        return self.of_model("singular_values", lambda: [torch.linalg.svdvals(m) for m in self.matrices()])
