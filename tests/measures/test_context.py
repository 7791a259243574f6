"""What measures share is computed once, kept within a budget, and is missing for all where it is missing."""

from dataclasses import replace

import pytest
import torch
from oracles import N

from robustgap.measures import _context, evaluate
from robustgap.measures._compute import contexts
from robustgap.measures._images import prepare
from robustgap.measures.core import Missing

EPS = 0.05


def test_what_measures_share_is_computed_once_and_within_the_budget(model, data, monkeypatch):
    x, y = data
    asked = ["average_ce", "prob_margin", "x_grad_norm", "w_grad_norm", "estimate_sharpness"]
    shared = evaluate(model, x, y, asked, eps=EPS, batch_size=6)
    counts = shared.set_index(["measure", "variant"])["forwards"]
    assert counts.xs("clean", level="variant").to_dict() == {
        "average_ce": N, "prob_margin": 0, "x_grad_norm": 3 * N, "w_grad_norm": 3 * N, "estimate_sharpness": N,
    }  # fmt: skip
    alone = [evaluate(model, x, y, name, eps=EPS, batch_size=6) for name in asked]
    assert shared["value"].tolist() == [value for table in alone for value in table["value"]]
    monkeypatch.setattr(_context, "BUDGET", 6 * x[0].nbytes)  # the input gradients of one batch
    poor = evaluate(model, x, y, asked, eps=EPS, batch_size=6)
    assert poor["value"].tolist() == shared["value"].tolist()
    assert poor["forwards"].sum() > shared["forwards"].sum()


def test_a_context_keeps_within_its_budget_and_only_what_is_its_own(model, data, monkeypatch):
    monkeypatch.setattr(_context, "BUDGET", 1000)
    context = contexts(model, prepare(model, *data, eps=EPS, batch_size=6))["clean"]
    made = []

    def ask(batch, size):
        return context.of_batch("name", batch, lambda: made.append(size) or torch.zeros(size, dtype=torch.uint8))

    first, second = context.batches[:2]
    for _ in range(2):
        ask(first, 600)
        ask(second, 600)
        ask(replace(first, images=first.images.clone()), 1)
    assert made == [600, 600, 1, 600, 1]  # the first kept; the second does not fit; other images are not its own
    ask(replace(first, notes={}), 5)
    assert made[-1] != 5  # the same images and labels in another Batch


def test_a_shared_quantity_that_is_missing_is_missing_for_all(model, data):
    context, calls = contexts(model, prepare(model, *data, eps=EPS))["clean"], []

    def refuse():
        calls.append(1)
        raise Missing("because")

    for _ in range(2):
        with pytest.raises(Missing, match="because"):
            context.once("key", refuse)
    assert calls == [1]
