"""Rows of a registered measure, and what holds for every one of them."""

import math

from robustgap.measures import evaluate
from robustgap.measures.core import load

ATTACKED = {"clean": 1e-6, "none": 1e-6, "adversarial": 1e-3}
EPS = 0.05
LOG = [{"epoch": t, "lr": 0.1, "train_loss": 1 / t, "train_clean": 0.5, "train_robust": 0.4, "val_clean": 0.4,
        "val_robust": 0.3} for t in (1, 2, 3)]  # fmt: skip


def start(model):
    """An initial state for the model, from which training would have doubled every parameter."""
    return {name: tensor / 2 for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


def rows(model, x, y, name, **options):
    options = {"eps": EPS, "initial": start(model), "log": LOG, **options}
    table = evaluate(model, x, y, name, **options)
    assert table["variant"].tolist() == load(name).variants
    return table.set_index("variant")


def check(table):
    """Every value is a finite number, or missing with its reason; nothing failed unforeseen."""
    for row in table.itertuples():
        assert math.isfinite(row.value) if row.value == row.value else row.reason
        assert not (row.value == row.value and row.reason) or row.reason.startswith("note: ")
        assert "Error" not in row.reason
    return table
