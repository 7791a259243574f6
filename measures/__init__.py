"""Robustness measures: numbers computed from a model, or from a model and images; one file per measure.

`robustgap.evaluate` computes them for any PyTorch classifier. Importing this package imports no torch.
"""

from typing import Any

if __name__ != "robustgap.measures":
    raise ImportError(f"found import of {__name__!r}, wanted robustgap.measures")

__all__ = ["evaluate"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from robustgap.measures._evaluate import evaluate

        return evaluate
    raise AttributeError(f"module 'robustgap.measures' has no attribute {name!r}")
