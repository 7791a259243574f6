"""Networks: shapes, sizes, normalisation inside, seeded weights; ResNet-18 against an independent implementation."""

import pytest
import torch
from torch import nn

from training import loop, zoo
from training.architectures import ARCHITECTURES, Normalize, build
from training.data import load
from training.run import make_optimizer
from training.settings import complete


def settings_of(architecture, **given):
    return complete({"architecture": architecture, **given})


def size(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("data", ["digits", "digits32"])
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_images_in_logits_out(name, data):
    """8 x 8 x 1 and 32 x 32 x 3; in eval mode an image's logits do not depend on the others."""
    splits = load(data)
    model = build(settings_of(name, data=data, width=4), splits).eval()
    x = splits.floats(splits.test.images[:5])
    with torch.no_grad():
        logits = model(x)
        assert logits.shape == (5, 10) and torch.isfinite(logits).all()
        torch.testing.assert_close(model(x[2:3]), logits[2:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_convolutional_networks_have_batchnorm(name):
    model = ARCHITECTURES[name](10, 3, width=4)
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_sizes_in_closed_form():
    assert size(ARCHITECTURES["resnet18"](10, 3)) == 11_173_962  # the CIFAR form of He et al. with 10 classes
    # cnn: 3 x 3 convolutions without bias 1-16-32-64, BatchNorm 2 x (16 + 32 + 64), linear 256 -> 10
    assert size(ARCHITECTURES["cnn"](10, 1)) == 9 * (16 + 16 * 32 + 32 * 64) + 2 * 112 + 2570
    assert size(ARCHITECTURES["mlp"](10, 1, image_size=8)) == 65 * 128 + 129 * 128 + 129 * 10
    assert size(ARCHITECTURES["mlp"](7, 3, width=5, image_size=4)) == 49 * 5 + 6 * 5 + 6 * 7
    assert size(ARCHITECTURES["resnet18"](10, 3, width=32)) < size(ARCHITECTURES["resnet18"](10, 3)) / 3.9


@torch.no_grad()
def test_resnet18_computes_what_robustbenchs_does():
    """The same network from RobustBench's zoo, with our weights: the same logits."""
    zoo.names("cifar10", "Linf")  # makes robustbench importable
    from robustbench.model_zoo.architectures.resnet import ResNet18

    generator = torch.Generator().manual_seed(0)
    ours, theirs = ARCHITECTURES["resnet18"](10, 3).eval(), ResNet18().eval()
    for buffer in ours.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5, generator=generator)
    weights = ours.state_dict()
    assert [tuple(v.shape) for v in weights.values()] == [tuple(v.shape) for v in theirs.state_dict().values()]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), weights.values(), strict=True)))
    x = torch.rand(3, 3, 32, 32, generator=generator)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("data, channels", [("digits", 1), ("digits32", 3)])
def test_normalisation_is_inside(data, channels):
    """Images in [0, 1] go in; mean and std are those of the training images."""
    splits = load(data)
    model = build(settings_of("cnn", data=data), splits).eval()
    train = splits.floats(splits.train.images)
    inside = model[0](train)
    assert isinstance(model[0], Normalize) and model[0].mean.shape == (1, channels, 1, 1)
    torch.testing.assert_close(inside.mean(dim=(0, 2, 3)), torch.zeros(channels), rtol=0, atol=1e-4)
    torch.testing.assert_close(inside.std(dim=(0, 2, 3)), torch.ones(channels), rtol=1e-3, atol=0)
    assert {"0.mean", "0.std"} <= set(model.state_dict()) and not list(model[0].parameters())
    x = splits.floats(splits.test.images[:4])
    torch.testing.assert_close(model(x), model[1]((x - model[0].mean) / model[0].std))


def test_weights_are_a_function_of_the_seed_alone():
    splits = load("digits")
    state = torch.random.get_rng_state()
    first = build(settings_of("cnn", seed=3), splits).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(123)
    same, other = (build(settings_of("cnn", seed=seed), splits).state_dict() for seed in (3, 4))
    torch.random.set_rng_state(state)
    assert all(torch.equal(value, same[key]) for key, value in first.items())
    assert not torch.equal(first["1.0.0.weight"], other["1.0.0.weight"])


def test_unknown_architecture():
    with pytest.raises(LookupError, match="architecture 'resnet81' is unknown; did you mean 'resnet18'"):
        build(settings_of("resnet81"), load("digits"))


def test_resnet18_trains():
    """A step of adversarial training with AWP in CIFAR's form: finite loss, every weight moved, lower loss after."""
    splits = load("digits32")
    settings = settings_of("resnet18", data="digits32", inner_steps=1, awp=True, lr=0.01, eps="4/255")
    model = build(settings, splits).train()
    x, y = splits.floats(splits.train.images[:4]), splits.train.labels[:4]
    batch, optimizer = loop.Batch(x, y, splits.train.index[:4]), make_optimizer(model, settings)
    before = [p.detach().clone() for p in model.parameters()]
    losses = [loop.train_step(model, optimizer, batch, settings, epoch=0) for _ in range(3)]
    assert losses[2] < losses[0]
    assert all(not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
