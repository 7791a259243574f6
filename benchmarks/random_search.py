"""Verdicts on measures of simulated random searches, whose axes are cut by `--bins`: increments by four classes, and by
the finer classes of analysis.model_table.bins.

Learning rate and weight decay are drawn anew for each model, the gap is a function f of the settings, and noise h:
`lr` is the learning rate in disguise, `settings` is f, both all but free of noise; `genuine` knows h as well. Run as

    python -m benchmarks.random_search > benchmarks/random_search.md
"""

import sys
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

from robustgap.analysis.model_table.bins import PROPOSED, cut_axes, fine_axes
from robustgap.analysis.verdicts.claims import claims

SEARCHES = 12  # of each kind and size
SIZES = (100, 320)
MEASURES = ["lr", "settings", "genuine"]
BINS = {"learning_rate": PROPOSED, "weight_decay": PROPOSED}
AXES = ["defense", *BINS]
VERDICTS = ["replicates", "proxy of the settings", "sign depends", "unresolved"]
KINDS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "linear": lambda lr, wd, trades: 3 * lr + wd,
    "quadratic": lambda lr, wd, trades: 4 * (lr - 0.3) ** 2 + wd,
    "interaction": lambda lr, wd, trades: 3 * lr * (1 + trades) + wd,
}


def make_search(kind: str, size: int, seed: int) -> pd.DataFrame:
    """One table: settings as text, `gap` and MEASURES as numbers."""
    rng = np.random.default_rng([seed, size])
    lr, wd, trades = rng.uniform(-1, 1, size), rng.uniform(-1, 1, size), rng.integers(2, size=size)
    known, hidden = KINDS[kind](lr, wd, trades), rng.standard_normal(size)
    slight, more = rng.standard_normal((2, size)) * 0.03, rng.standard_normal(size) / 2
    settings = {"learning_rate": lr.astype(str), "weight_decay": wd.astype(str)}
    numbers = {"lr": lr + slight[0], "settings": known + slight[1], "genuine": known / 2 + hidden + more}
    return pd.DataFrame({"defense": np.where(trades, "TRADES", "AT"), **settings, "gap": known + hidden, **numbers})


def verdicts(kind: str, size: int) -> dict[tuple[str, str], Counter]:
    """How often each verdict is reached: {(classes, measure): verdicts}, both kinds of classes on the same searches."""
    found = {(classes, name): Counter[str]() for classes in ("four", "finer") for name in MEASURES}
    for seed in range(SEARCHES):
        exact = make_search(kind, size, seed)
        rows = cut_axes(exact, AXES, BINS, None, kind)[0]
        for classes, fine in (("four", None), ("finer", fine_axes(exact, BINS, kind)[0])):
            verdict = claims(rows, axes=AXES, outcome="gap", measures=MEASURES, fine=fine)[0]
            for name, told in zip(verdict["measure"], verdict["verdict"], strict=True):
                found[classes, name][told] += 1
    return found


def main() -> int:
    started = time.time()
    lines = [
        f"| kind | models | increments by | measure | {' | '.join(VERDICTS)} |",
        "|---" * (4 + len(VERDICTS)) + "|",
    ]
    for kind in KINDS:
        for size in SIZES:
            for (classes, name), told in verdicts(kind, size).items():
                counts = " | ".join(str(told[verdict]) for verdict in VERDICTS)
                lines.append(f"| {kind} | {size} | {classes} | {name} | {counts} |")
    print("# Verdicts on measures of random searches\n")
    print(f"Made by `python -m benchmarks.random_search`: {SEARCHES} searches a row, {time.time() - started:.0f} s.\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
