"""Robustness measures: numbers computed from a model, or from a model and images. One file per measure.

`from measures import evaluate` computes them for any PyTorch classifier. Importing this package imports no torch.
"""

from typing import Any

__all__ = ["evaluate"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from measures._evaluate import evaluate

        return evaluate
    raise AttributeError(f"module 'measures' has no attribute {name!r}")
