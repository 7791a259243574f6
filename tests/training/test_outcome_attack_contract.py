"""Every attack of outcomes, in each of its norms, with each kind of target and option, keeps the contract."""

from typing import Any

import pytest
import torch
from outcome_cases import Linear64, parts
from torch import Tensor

from robustgap.training.data.datasets import load
from robustgap.training.facts import ATTACK_FACTS, CORRUPTIONS
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS
from robustgap.training.outcome_attacks.corruption import KINDS
from robustgap.training.outcome_attacks.transfer import Source

EPS = {"Linf": 0.05, "L2": 0.5, "severity": 3}
FEW = 12  # images for those that a library attacks, which take thousands of passes


def cases() -> list[Any]:
    """(attack, norm, extra): every attack in every norm; every kind of target; every kind of corruption."""
    found = []
    for attack, facts in ATTACK_FACTS.items():
        extras: list[dict[str, str]] = [{"target": target} for target in (*facts.targets, "3")] if facts.targets else []
        extras += [{"kind": kind} for kind in facts.options.get("kind", ())]
        found += [(attack, norm, extra) for norm in facts.norms for extra in extras or [{}]]
    return [pytest.param(*case, id="-".join([*case[:2], *case[2].values()])) for case in found]


def arguments(attack: str, norm: str, extra: dict[str, str], eps: float | None = None) -> dict[str, Any]:
    source = {"source": Source(Linear64().eval()), "by": "pgd10"} if attack == "transfer" else {}
    return {"attack": attack, "norm": norm, "eps": EPS[norm] if eps is None else eps, **source, **extra}


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor]:
    split, splits = load("digits").train, load("digits")
    return splits.floats(split.images[:60]).double(), split.labels[:60], split.index[:60]


@pytest.mark.parametrize("attack, norm, extra", cases())
def test_no_budget_is_exactly_clean(attack: str, norm: str, extra: dict[str, str], digits):
    x, y, index = digits
    model = Linear64().eval()
    found = parts(model, x, y, index, **arguments(attack, norm, extra, 0.0), batch=32)
    for right, x_adv in found.values():
        assert torch.equal(x_adv, x) and torch.equal(right, model(x).argmax(1) == y)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("attack, norm, extra", cases())
def test_images_stay_in_the_ball_and_results_hang_on_the_image_alone(attack: str, norm: str, extra, digits):
    """On neither batch size nor order, unless a library draws for all at once, nor torch's random state; which is left
    as it was."""
    whole = ATTACK_FACTS[attack].whole
    x, y, index = (tensor[: FEW if whole else 60] for tensor in digits)
    model, given, state = Linear64().eval(), arguments(attack, norm, extra), torch.random.get_rng_state()
    first = parts(model, x, y, index, **given, batch=60)
    for _, x_adv in first.values():
        size = (x_adv - x).flatten(1).abs().amax(1) if norm == "Linf" else (x_adv - x).flatten(1).norm(dim=1)
        assert norm == "severity" or size.max() <= EPS[norm] * (1 + 1e-6)
        assert x_adv.min() >= 0 and x_adv.max() <= 1 and x_adv.dtype == x.dtype
    assert torch.equal(torch.random.get_rng_state(), state)
    same, order = torch.arange(len(x)), torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    for rows, batch in ((same, 7),) if whole else ((same[:20], 1), (same, 7), (order, 16)):
        with torch.random.fork_rng():
            torch.manual_seed(int(batch))
            found = parts(model, x[rows], y[rows], index[rows], **given, batch=batch)
        assert list(found) == list(first)
        for value, (right, x_adv) in found.items():
            assert torch.equal(right, first[value][0][rows])
            torch.testing.assert_close(x_adv, first[value][1][rows], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("attack, norm, extra", cases())
def test_images_outside_the_box_are_refused(attack: str, norm: str, extra: dict[str, str], digits):
    x, y, index = digits
    with pytest.raises(ValueError, match=r"wanted all inside \[0, 1\]"):
        parts(Linear64().eval(), 16 * x, y, index, **arguments(attack, norm, extra))


def test_facts_declare_what_the_attacks_take():
    assert tuple(KINDS) == CORRUPTIONS and all(len(parameters) == 5 for _, parameters in KINDS.values())
    for name, facts in ATTACK_FACTS.items():
        code = OUTCOME_ATTACKS[name].__code__
        taken = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
        declared = {*facts.options, *(["target"] if facts.targets else []), *(["state"] if facts.stateful else [])}
        assert taken - {"model", "x", "y", "index", "eps", "norm"} == declared, name
        assert facts.norms and {option for option, values in facts.options.items() if not values} <= {"source"}
    assert {name for name, facts in ATTACK_FACTS.items() if facts.parts} == {"targeted_pgd", "autoattack"}
    assert {name for name, facts in ATTACK_FACTS.items() if facts.whole} == {
        *("apgd_ce", "apgd_t", "fab_t", "square", "autoattack")
    }
