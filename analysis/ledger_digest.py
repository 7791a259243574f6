"""A digest of a ledger, by which its statistics are told from those of another ledger with the same measures."""

import hashlib
import json
from collections.abc import Iterable

import pandas as pd

from robustgap.analysis.ledger import KEYS, TRAIN_LOSS, VALIDATED, Ledger

SETTINGS = ("run", "seed", "checkpoint", "status", "flags")  # of a run, besides the study's axes
NUMBERS = {
    "runs": (*VALIDATED, TRAIN_LOSS),
    "outcomes": ("n", "accuracy", "se", "loss"),
    "measures": ("value", "se"),
}


def ledger_digest(ledger: Ledger) -> str:
    """SHA-256 of what the statistics of a ledger are computed from: models with their settings, accuracies, values of
    measures, the signs that papers claim, and the study's options. Neither the folder nor the time of its making, what
    anything took nor the layout of the files changes it."""
    signs = {name: ledger.catalogue[name].get("expects") for name in sorted(ledger.catalogue)}
    options = [ledger.axes, ledger.columns, ledger.study["study"].get("analysis", {}), signs]
    digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode())
    for name, keys in KEYS.items():
        table = getattr(ledger, name)
        texts = [*keys, *SETTINGS, *ledger.axes] if name == "runs" else keys
        digest.update(_bytes(table, texts, str))
        digest.update(_bytes(table, [column for column in NUMBERS[name] if column in table], float))
    return digest.hexdigest()


def _bytes(table: pd.DataFrame, columns: Iterable[str], kind: type) -> bytes:
    """One hash per row of these columns, as bytes; the same for a table in memory and read from its file."""
    chosen = table[list(dict.fromkeys(columns))].astype(kind)
    return bytes(pd.util.hash_pandas_object(chosen.astype(object if kind is str else kind), index=False).to_numpy())
