"""Ledgers with further outcomes: of other attacks, norms and eps, with losses and correctness bits that agree."""

from dataclasses import dataclass, replace
from pathlib import Path

import ledgers
import numpy as np
import pandas as pd

from robustgap.analysis.ledger import Ledger
from robustgap.analysis.outcome_names import OutcomeId

SIZES = {"train": 200, "test": 160}  # images


@dataclass(frozen=True)
class Given:
    """An outcome to add: probability (models,) of being right on an image of each split, and perhaps losses. models:
    those that have it (default: all); eps: for its column."""

    outcome: str
    train: np.ndarray
    test: np.ndarray
    loss: np.ndarray | None = None
    models: np.ndarray | None = None
    eps: float = 0.15


def bits_of(right: np.ndarray) -> bytes:
    return np.packbits(right).tobytes()


def rows_of(ledger: Ledger, given: Given, rng: np.random.Generator) -> tuple[list[dict], list[dict]]:
    """Rows of `outcomes` and of the bits."""
    outcomes, bits, parts = [], [], OutcomeId.read(given.outcome)
    for number, model in enumerate(ledger.runs["model"]):
        if given.models is not None and not given.models[number]:
            continue
        for split, n in SIZES.items():
            right = rng.random(n) < getattr(given, split)[number]
            key = {"model": model, "split": split, "outcome": given.outcome, "attack": parts.attack, "n": n}
            accuracy = right.mean()
            row = {**key, "norm": parts.norm or "Linf", "eps": given.eps, "target": parts.target, "options": ""}
            row |= {"accuracy": accuracy, "se": np.sqrt(accuracy * (1 - accuracy) / n), "flags": "", "seconds": 0.1}
            row |= {"loss": np.nan if given.loss is None else given.loss[number] + 0.1 * (split == "test")}
            outcomes.append({**row, "confidence_right": 0.9, "confidence_wrong": 0.6})
            bits.append({**key, "bits": bits_of(right), "index_sha": f"sha-{split}"})
    return outcomes, bits


def make(path: Path, *given: Given, seed: int = 0, **options) -> Ledger:
    """A ledger of `ledgers.make` (without troubles) whose outcomes are those given and, from it, the others."""
    ledger = ledgers.make(path, troubles=False, **options)
    rng, outcomes, bits = np.random.default_rng(seed), [], []
    for one in given:
        more, packed = rows_of(ledger, one, rng)
        outcomes, bits = outcomes + more, bits + packed
    kept = ledger.outcomes[~ledger.outcomes["outcome"].isin([one.outcome for one in given])]
    replace(ledger, outcomes=pd.concat([kept, pd.DataFrame(outcomes)], ignore_index=True)).write(path)
    pd.DataFrame(bits).to_parquet(path / "bits.parquet")
    return Ledger.load(path)


def asked(ledger: Ledger, outcome: str, **analysis: object) -> Ledger:
    """The ledger of a study that explains another outcome."""
    settings = ledger.study["study"]
    analysis = {**settings["analysis"], "outcome": outcome, **analysis}
    return replace(ledger, study={**ledger.study, "study": {**settings, "analysis": analysis}})
