"""Networks: shapes, sizes, normalisation inside, seeded weights; residual networks against independent ones."""

import pytest
import torch
from torch import nn

from robustgap.training.data.batches import TrainingBatch
from robustgap.training.data.datasets import load
from robustgap.training.jobs.run import make_optimizer
from robustgap.training.networks.architectures import ACTIVATIONS, ARCHITECTURES, Normalize, build
from robustgap.training.networks.architectures.layouts import load_public
from robustgap.training.robustbench import zoo
from robustgap.training.settings import complete
from robustgap.training.step import train_step


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


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"mlp"}))
def test_convolutional_networks_have_batchnorm(name):
    model = ARCHITECTURES[name](10, 3, width=4)
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_sizes_in_closed_form():
    # cnn: 3 x 3 convolutions without bias 1-16-32-64, BatchNorm 2 x (16 + 32 + 64), linear 256 -> 10
    assert size(ARCHITECTURES["cnn"](10, 1)) == 9 * (16 + 16 * 32 + 32 * 64) + 2 * 112 + 2570
    assert size(ARCHITECTURES["mlp"](10, 1, image_size=8)) == 65 * 128 + 129 * 128 + 129 * 10
    assert size(ARCHITECTURES["mlp"](7, 3, width=5, image_size=4)) == 49 * 5 + 6 * 5 + 6 * 7
    assert size(ARCHITECTURES["resnet18"](10, 3, width=32)) < size(ARCHITECTURES["resnet18"](10, 3)) / 3.9


# Millions for CIFAR-10, as the literature gives them for the public implementations: pytorch-cifar's ResNets, and the
# wide ResNets of Zagoruyko and Komodakis (BMVC 2016, table 4: 36.5 M for WRN-28-10) as in TRADES' code. RobustBench
# ships those implementations; a test below counts and runs them beside ours.
PUBLISHED = {
    "preactresnet18": 11.17,
    "resnet18": 11.17,
    "resnet34": 21.28,
    "resnet50": 23.52,
    "wrn28_10": 36.48,
    "wrn34_10": 46.16,
    "wrn70_16": 266.80,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name):
    with torch.device("meta"):
        assert round(size(ARCHITECTURES[name](10, 3)) / 1e6, 2) == PUBLISHED[name]


@pytest.mark.parametrize(("name", "depth", "widen"), [("wrn28_10", 28, 10), ("wrn34_10", 34, 10), ("wrn70_16", 70, 16)])
def test_sizes_of_wide_resnets_in_closed_form(name, depth, widen):
    """Stem; per stage the first block, with a 1 x 1 shortcut, and the others; BatchNorm before each convolution."""
    channels, total = 16, 27 * 16
    for c in (16 * widen, 32 * widen, 64 * widen):
        total += 9 * channels * c + 9 * c * c + channels * c + 2 * (channels + c)
        total += ((depth - 4) // 6 - 1) * (18 * c * c + 4 * c)
        channels = c
    with torch.device("meta"):
        assert size(ARCHITECTURES[name](10, 3)) == total + 2 * channels + 10 * channels + 10


def of_robustbench(name):
    """The implementation in RobustBench's zoo."""
    zoo.model_names("cifar10", "Linf")  # makes robustbench importable
    from robustbench.model_zoo.architectures import resnet, wide_resnet

    if name.startswith("wrn"):
        depth, widen = map(int, name.removeprefix("wrn").split("_"))
        return wide_resnet.WideResNet(depth, widen_factor=widen)
    if name == "preactresnet18":
        return resnet.PreActResNet(resnet.PreActBlock, [2, 2, 2, 2], bn_before_fc=True, out_shortcut=True)
    return getattr(resnet, f"ResNet{name.removeprefix('resnet')}")()


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_robustbenchs(name):
    with torch.device("meta"):
        assert size(ARCHITECTURES[name](10, 3)) == size(of_robustbench(name))


@torch.no_grad()
@pytest.mark.parametrize("name", ["preactresnet18", "resnet18", "resnet34", "resnet50", "wrn28_10"])
def test_networks_compute_what_robustbenchs_do(name, tmp_path):
    """With the weights of RobustBench's implementation imported: the same logits."""
    generator, theirs = torch.Generator().manual_seed(0), of_robustbench(name).eval()
    for buffer in theirs.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5, generator=generator)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.pt")
    ours = load_public(tmp_path / "theirs.pt", name, num_classes=10, in_channels=3, image_size=32)
    x = torch.rand(2, 3, 32, 32, generator=generator)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("relu", lambda z: z.clamp(min=0)),
        ("silu", lambda z: z / (1 + (-z).exp())),
        ("softplus", lambda z: (1 + z.exp()).log()),
    ],
)
def test_activation_is_a_setting(activation, function):
    """On the two hidden layers of an mlp, by hand; no network has any other activation."""
    network = ARCHITECTURES["mlp"](3, 1, width=6, image_size=2, activation=activation)
    first, second, last = (module for module in network if isinstance(module, nn.Linear))
    x = torch.linspace(-2, 2, 8).reshape(2, 1, 2, 2)
    by_hand = last(function(second(function(first(x.flatten(1))))))
    torch.testing.assert_close(network(x), by_hand, rtol=1e-5, atol=1e-6)
    for architecture in ARCHITECTURES.values():
        modules = list(architecture(10, 3, width=2, activation=activation).modules())
        kinds = {type(module) for module in modules if isinstance(module, nn.ReLU | nn.SiLU | nn.Softplus)}
        assert kinds == {ACTIVATIONS[activation]}


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
    with pytest.raises(LookupError, match="activation 'relo' is unknown; did you mean 'relu'"):
        build(settings_of("cnn", activation="relo"), load("digits"))


def test_resnet18_trains():
    """A step of adversarial training with AWP in CIFAR's form: finite loss, every weight moved, lower loss after."""
    splits = load("digits32")
    settings = settings_of("resnet18", data="digits32", inner_steps=1, awp=True, lr=0.01, eps="4/255")
    model = build(settings, splits).train()
    x, y = splits.floats(splits.train.images[:4]), splits.train.labels[:4]
    batch, optimizer = TrainingBatch(x, y, splits.train.index[:4]), make_optimizer(model, settings)
    before = [p.detach().clone() for p in model.parameters()]
    losses = [train_step(model, optimizer, batch, settings, epoch=0) for _ in range(3)]
    assert losses[2] < losses[0]
    assert all(not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
