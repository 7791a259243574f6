"""Every registered measure is unchanged by the transformations of a network that it declares, and changed by others."""

import copy
import math
from functools import cache

import oracles
import pytest
import torch
from measure_rows import ATTACKED, check, rows, start
from oracles import N
from torch import nn

from robustgap.measures._code import names
from robustgap.measures.core import load

NAMES = names()


def rescaled(model):
    """First layer times 3, last weight by 3: the same function, as ReLU is homogeneous."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model[1].weight.mul_(3)
        model[1].bias.mul_(3)
        model[3].weight.div_(3)
    return model


def sharpened(model):
    """All logits times 1.5."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model[-1].weight.mul_(1.5)
        model[-1].bias.mul_(1.5)
    return model


def folded(model):
    """BatchNorm folded into the convolution before it."""
    return nn.Sequential(nn.utils.fuse_conv_bn_eval(model[0], model[1]), *copy.deepcopy(model[2:])).eval()


TRANSFORMED = {
    "layer rescaling": (oracles.relu_net, rescaled),
    "logit scale": (oracles.relu_net, sharpened),
    "BatchNorm folding": (oracles.conv_net, folded),
}

# No invariance, but the share of a few images does not show it: the path of an attack changes, its end seldom does.
# The accuracy under noise moves in steps of one image, which hides what the floor of the noise changes.
UNSEEN = {("boundary_unreached", "logit scale")}
UNSEEN |= {("pacbayes_mag_flat", invariance) for invariance in TRANSFORMED}


@pytest.fixture(scope="module")
def before():
    """(model, images, labels, rows of a measure) of a network before it is transformed, computed once for each."""

    @cache
    def of(make, name):
        model, x = make(), oracles.images(N)
        with torch.no_grad():
            y = model(x).argmax(dim=1)
        return model, x, y, check(rows(model, x, y, name))

    return of


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("invariance", TRANSFORMED)
def test_declared_invariances_hold_and_the_others_do_not(name, invariance, before):
    """Declared: no variant changes beyond its tolerance. Not declared: some variant changes, however little."""
    make, change = TRANSFORMED[invariance]
    model, x, y, wanted = before(make, name)
    began = copy.deepcopy(model)
    began.load_state_dict(start(model), strict=False)
    initial = change(began).state_dict()  # what is changed is the network, at the start of its training too
    found = check(rows(change(model), x, y, name, initial=initial))
    there = [variant for variant in wanted.index if math.isfinite(wanted.loc[variant, "value"])]
    assert there
    declared = invariance in load(name).invariances
    same = [
        found.loc[variant, "value"]
        == pytest.approx(wanted.loc[variant, "value"], rel=ATTACKED[variant] if declared else 1e-6)
        for variant in there
    ]
    if declared:
        assert all(same)
    else:
        assert not all(same) or (name, invariance) in UNSEEN, f"{name} keeps its value: declare {invariance!r}"
