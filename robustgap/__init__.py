"""Which measurable property of a network predicts how much of its adversarial robustness survives on test images?

    robustgap.evaluate     measures of any PyTorch classifier, as one table (see robustgap.measures)
    robustgap.measures     the measures, one file each
    robustgap.analysis     from a ledger, or any table with one row per model, to statistics, figures and a report
    robustgap.training     training under attack, and outcomes
    robustgap.workflow     study files, plans, jobs

Importing it imports no torch. In a checkout the four packages lie beside this folder, not in it; the links in it are
for tools that read code without running it.
"""

from pathlib import Path
from typing import Any

__all__ = ["__version__", "evaluate"]
__version__ = "0.1.0"

_above = Path(__file__).resolve().parents[1]
if (_above / "Snakefile").is_file():  # a checkout; installed, the packages lie in this folder
    __path__ = [str(_above), *__path__]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from robustgap.measures import evaluate

        return evaluate
    raise AttributeError(f"module 'robustgap' has no attribute {name!r}")
