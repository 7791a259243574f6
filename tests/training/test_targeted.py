"""Targeted PGD against the optimum of a linear model, and what its targets have to do with each other."""

import pytest
import torch
from oracles import images
from outcome_cases import EPS, SHAPE, Linear64, attacked, centred, lead_and_reach, parts

from robustgap.training import attacks


@pytest.mark.parametrize("norm", EPS)
def test_of_two_classes_the_best_is_the_corner_or_the_point_of_the_sphere_towards_the_other(norm: str):
    """The cross-entropy of class 1 falls along w_1 - w_0, everywhere: by eps times its dual norm at best."""
    model, x, index = centred(2).double(), images(120, SHAPE), torch.arange(120)
    y = torch.zeros(120, dtype=torch.long)
    given = {"attack": "targeted_pgd", "eps": EPS[norm], "norm": norm}
    right, x_adv = attacked(model, x, y, index, **given, target="1", batch=50)
    difference = (model[1].weight[1] - model[1].weight[0]).reshape(SHAPE).detach()
    best = x + EPS[norm] * (difference.sign() if norm == "Linf" else difference / difference.norm())
    if norm == "Linf":
        torch.testing.assert_close(x_adv, best)
    else:  # where a start off the axis is not forgotten in 10 steps
        assert ((x_adv - x) * difference).sum((1, 2, 3)).min() > 0.95 * EPS[norm] * difference.norm()
    lost = attacks.cross_entropy(model(best), torch.ones_like(y)) - attacks.cross_entropy(
        model(x_adv), torch.ones_like(y)
    )
    assert lost.max() <= 1e-12 and lost.min() > (-1e-9 if norm == "Linf" else -0.05)
    distance = lead_and_reach(model, x, y, norm).amin(1) / EPS[norm]
    assert right[distance > 1].all() and not right[distance < 0.95].any()
    assert (distance > 1).sum() > 10 and ((distance > 0) & (distance < 0.95)).sum() > 10


def test_images_of_the_target_are_left_as_they_are():
    model, x, index = Linear64().eval(), images(40, SHAPE), torch.arange(40)
    y = index % 10
    x_adv = attacked(model, x, y, index, attack="targeted_pgd", eps=0.1, norm="Linf", target="3")[1]
    same = (x_adv == x).flatten(1).all(1)
    assert torch.equal(same, y == 3)


def test_each_is_every_class_by_itself_and_then_the_worst_of_them():
    model, x, index = Linear64().eval(), images(60, SHAPE), torch.arange(60)
    y = torch.where(index % 6 == 0, index % 10, model(x).argmax(1))
    given = {"attack": "targeted_pgd", "eps": 0.01, "norm": "Linf"}
    found = parts(model, x, y, index, **given, target="each", batch=25)
    assert list(found) == [*map(str, range(10)), ""]
    right, worst = found.pop("")
    for name, (bits, x_adv) in found.items():
        alone = attacked(model, x, y, index, **given, target=name)
        assert torch.equal(alone[0], bits)
        torch.testing.assert_close(alone[1], x_adv)
    every = torch.stack([bits for bits, _ in found.values()])
    assert torch.equal(right, every.all(0)) and 0 < right.sum() < every.sum(1).min()
    losses = torch.stack([attacks.cross_entropy(model(x_adv), y) for _, x_adv in found.values()])
    torch.testing.assert_close(attacks.cross_entropy(model(worst), y)[right], losses.amax(0)[right])
    drawn = attacked(model, x, y, index, **given, target="drawn")[1]
    ends = torch.stack([x_adv for _, x_adv in found.values()])
    matches = (ends - drawn).abs().flatten(2).amax(2) < 1e-9
    assert matches.any(0).all() and not matches[y, index].any()


def test_a_drawn_class_is_any_other_as_often():
    """800 images of 5 classes: each of the 20 pairs of label and class about 40 times (chi-squared with 15 degrees)."""
    model, index = centred(5).double(), torch.arange(800)
    x, y = images(1, SHAPE).expand(800, -1, -1, -1), index % 5
    drawn = attacked(model, x, y, index, attack="targeted_pgd", eps=0.5, norm="Linf", target="drawn")[1]
    chosen = model(drawn).argmax(1)  # eps is large enough to get there
    counts = torch.bincount(5 * y + chosen, minlength=25).reshape(5, 5)
    assert not counts.diagonal().any()
    others = counts[~torch.eye(5, dtype=torch.bool)].double()
    assert ((others - 40) ** 2 / 40).sum() < 37.7  # .999


def test_a_class_that_the_model_lacks_is_refused():
    model, x, y = centred(5).double(), images(4, SHAPE), torch.arange(4)
    with pytest.raises(ValueError, match="target: found 5, wanted a class from 0 to 4"):
        attacked(model, x, y, y, attack="targeted_pgd", eps=0.1, norm="Linf", target="5")
