"""Public checkpoints as models of ours: every wrapper and name that is known, and one line for what does not fit."""

import pytest
import torch
from torch import nn

from robustgap.training.checkpoint import FileFault
from robustgap.training.networks.architectures import ARCHITECTURES, layouts
from robustgap.training.networks.architectures.layouts import load_public, unwrapped
from robustgap.training.networks.architectures.preact import WideResNet
from robustgap.training.robustbench import zoo

SHAPE = {"num_classes": 10, "in_channels": 3, "image_size": 8, "width": 4}


def network(name="resnet18"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ARCHITECTURES[name](10, 3, width=4, image_size=8).eval()


def saved(tmp_path, checkpoint):
    torch.save(checkpoint, tmp_path / "public.pt")
    return tmp_path / "public.pt"


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


WRAPPERS = {
    "bare": lambda s: s,
    "DataParallel": lambda s: prefixed("module.", s),
    "a model. wrapper": lambda s: prefixed("model.", s),
    "both": lambda s: prefixed("module.model.", s),
    "compiled": lambda s: prefixed("_orig_mod.module.", s),
    "beside the optimizer": lambda s: {"epoch": 3, "optimizer": {"lr": 0.1}, "state_dict": prefixed("module.", s)},
    "model and accuracy": lambda s: {"model": s, "acc": 51.2},
    "net of pytorch-cifar": lambda s: {"net": prefixed("module.", s), "acc": 51.2, "epoch": 1},
    "model_state_dict": lambda s: {"model_state_dict": s},
    "last": lambda s: {"last": s},
    "two containers": lambda s: {"model": {"state_dict": s, "epoch": 1}},
}


@torch.no_grad()
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrappers_are_taken_off(wrap, tmp_path):
    theirs = network()
    ours = load_public(saved(tmp_path, wrap(theirs.state_dict())), "resnet18", **SHAPE)
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(x), theirs(x)) and not ours.training


@torch.no_grad()
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s, m, d: {"mean": m, "std": d, **prefixed("model.", s)},
        lambda s, m, d: {"module.mu": m, "module.sigma": d, **prefixed("module.model.", s)},
        lambda s, m, d: {"normalize.mean": m, "normalize.std": d, **prefixed("model.", s)},
        lambda s, m, d: {"0.mean": m, "0.std": d, **prefixed("1.", s)},
    ],
)
def test_a_normalisation_in_the_file_is_kept(wrap, tmp_path):
    theirs = network()
    mean, std = torch.tensor([0.5, 0.4, 0.3]).reshape(1, 3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).reshape(1, 3, 1, 1)
    file = saved(tmp_path, wrap(theirs.state_dict(), mean, std))
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_public(file, "resnet18", **SHAPE)(x), theirs((x - mean) / std))
    given = load_public(file, "resnet18", **SHAPE, mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 3.0])
    other = (x - torch.tensor([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1)) / torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    assert torch.equal(given(x), theirs(other))


@torch.no_grad()
def test_names_of_other_codes_are_translated(tmp_path):
    """torchvision calls the shortcut downsample and the head fc; TRADES' wide ResNets have a convShortcut and may carry
    a stage that is never called; old files have no num_batches_tracked."""
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    state = network("resnet18").state_dict()
    state = {k.replace("shortcut.", "downsample.").replace("linear.", "fc."): v for k, v in state.items()}
    ours = load_public(saved(tmp_path, state), "resnet18", **SHAPE)
    assert torch.equal(ours(x), network("resnet18")(x))
    state = network("wrn28_10").state_dict()
    state = {k.replace("shortcut.0.", "convShortcut."): v for k, v in state.items() if "num_batches" not in k}
    state["sub_block1.layer.0.conv1.weight"] = torch.zeros(3)
    ours = load_public(saved(tmp_path, prefixed("module.", state)), "wrn28_10", **SHAPE)
    assert torch.equal(ours(x), network("wrn28_10")(x))


@pytest.fixture
def deepmind(monkeypatch):
    """A WRN-16-2 of DeepMind's code with the statistics of a batch, and its name among ours."""
    zoo.model_names("cifar10", "Linf")  # makes robustbench importable
    from robustbench.model_zoo.architectures import dm_wide_resnet as code

    def small(num_classes, in_channels, *, width=0, image_size=32, activation="relu"):
        return WideResNet(16, 2, num_classes, in_channels, width or 16, activation)

    monkeypatch.setitem(ARCHITECTURES, "wrn16_2", small)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = code.DMWideResNet(10, 16, 2, code.Swish, code.CIFAR10_MEAN, code.CIFAR10_STD).train()
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        theirs(torch.rand(8, 3, 32, 32))
    return theirs.eval(), {"mean": list(code.CIFAR10_MEAN), "std": list(code.CIFAR10_STD)}


CIFAR = {"num_classes": 10, "in_channels": 3, "image_size": 32, "activation": "silu"}


@torch.no_grad()
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": prefixed("module.", s)},
        lambda s: {
            "model_state_dict": prefixed("module.0.", s),
            "unaveraged_model_state_dict": prefixed("module.0.", s),
        },
    ],
    ids=["DeepMind's", "RobustBench's", "Wang et al.'s"],
)
def test_wide_resnets_of_deepminds_code_are_the_same_function(wrap, deepmind, tmp_path, monkeypatch):
    """Their stride-2 convolutions pad at one end alone, and their normalisation is not in the file."""
    theirs, constants = deepmind
    file = saved(tmp_path, wrap(theirs.state_dict()))
    ours = load_public(file, "wrn16_2", **CIFAR, **constants)
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(layouts, "_pad_as_deepmind", lambda network: None)
    assert (load_public(file, "wrn16_2", **CIFAR, **constants)(x) - theirs(x)).abs().max() > 1e-3


def test_what_deepminds_code_needs_and_the_file_does_not_say_is_asked_for(deepmind, tmp_path):
    theirs, constants = deepmind
    file = saved(tmp_path, theirs.state_dict())
    for given, told in (
        ({}, "found no mean and std, wanted those that DeepMind's code keeps beside its files"),
        ({**constants, "image_size": 28}, "found images of 28 x 28, wanted 32 x 32 for DeepMind's code"),
    ):
        with pytest.raises(FileFault) as caught:
            load_public(file, "wrn16_2", **{**CIFAR, **given})
        assert str(caught.value) == f"{file}: {told}"
    with pytest.raises(FileFault, match=r"public\.pt: not a checkpoint of resnet18: does not fit: [^\n]+$"):
        load_public(file, "resnet18", **{**CIFAR, **constants})


CASES = {
    "another architecture": (lambda s: {k: v for k, v in s.items() if k != "conv1.weight"}, "1 missing (conv1.weight)"),
    "left over": (lambda s: {**s, "head.weight": torch.zeros(1)}, "1 left over (head.weight)"),
    "another width": (lambda s: {**s, "bn1.weight": torch.zeros(5)}, "1 of another shape (bn1.weight)"),
    "no tensors": (
        lambda s: {"epoch": 3, "args": {"lr": 1}},
        "found keys epoch, args, wanted tensors by name or one of",
    ),
    "nothing": (lambda s: {}, "found dict without tensors, wanted a state dict"),
    "a normalisation alone": (
        lambda s: {"module.mean": torch.zeros(3), "module.std": torch.ones(3)},
        "found module.mean, module.std alone, wanted the weights of a network",
    ),
    "a list": (lambda s: [1, 2], "found list without tensors, wanted a state dict"),
    "means of another image": (lambda s: {**s, "mean": torch.zeros(1)}, "found 1 means and 3 stds, wanted 3 of each"),
}


@pytest.mark.parametrize(("change", "told"), CASES.values(), ids=CASES)
def test_what_does_not_fit_is_one_line(change, told, tmp_path):
    with pytest.raises(FileFault) as caught:
        load_public(saved(tmp_path, change(network().state_dict())), "resnet18", **SHAPE)
    assert told in str(caught.value) and "public.pt" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_truncated_and_unsafe_files_are_one_line(tmp_path):
    with pytest.raises(FileFault, match=r"gone\.pt: not found; wanted a checkpoint of resnet18"):
        load_public(tmp_path / "gone.pt", "resnet18", **SHAPE)
    file = saved(tmp_path, network().state_dict())
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(FileFault, match=r"public\.pt: not a checkpoint of resnet18: [^\n]+$"):
        load_public(file, "resnet18", **SHAPE)
    torch.save({"state_dict": nn.Linear(2, 2)}, file)
    with pytest.raises(FileFault, match=r"public\.pt: refused, wanted tensors and plain containers only$"):
        load_public(file, "resnet18", **SHAPE)


def test_a_network_whose_own_names_begin_like_a_prefix_is_left_alone():
    state = {"model.0.weight": torch.zeros(1), "head.weight": torch.zeros(1)}
    assert unwrapped(state) == state
