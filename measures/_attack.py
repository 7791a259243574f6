"""The attack behind every adversarial variant."""

from collections.abc import Callable

from torch import Tensor

from robustgap.measures.core import Batch
from robustgap.training import attacks


def pgd10(model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
    """PGD-10 on the clean images of a batch: 10 steps of eps/4 from a uniform draw from the ball, keyed by image."""
    start = attacks.start(
        batch.clean, batch.index, seed=batch.seed, eps=batch.eps, norm=batch.norm, stream=attacks.EVALUATION_START
    )
    examples: Tensor = attacks.pgd(model, batch.clean, batch.labels, eps=batch.eps, noise=start, norm=batch.norm)
    return examples
