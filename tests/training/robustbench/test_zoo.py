"""RobustBench's models from checkpoints on disk: repairs only where needed, safe loading, one-line errors."""

import argparse
import os
import subprocess
import sys

import pytest
import torch

from robustgap.training.robustbench import _compat, zoo

# A pre-activation ResNet-18 with its own normalisation, and DeepMind's with Swish.
NAMES = ("Wong2020Fast", "Rade2021Helper_R18_ddpm")


def entry(name, dataset="cifar10", threat="Linf"):
    return {"source": "robustbench", "name": name, "dataset": dataset, "threat": threat}


def fresh_network(name):
    """The architecture of a CIFAR-10 Linf entry with seeded random weights."""
    zoo.model_names("cifar10", "Linf")  # makes robustbench importable
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return model_dicts[BenchmarkDataset.cifar_10][ThreatModel.Linf][name]["model"]().eval()


def path_of(folder, name):
    path = folder / "cifar10" / "Linf" / f"{name}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
def test_loads_what_lies_on_disk(name, tmp_path, images):
    network = fresh_network(name)
    torch.save({"state_dict": network.state_dict()}, path_of(tmp_path, name))
    state = torch.random.get_rng_state()
    model = zoo.load_robustbench(entry(name), tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        torch.testing.assert_close(model(images), network(images), rtol=0, atol=0)
        assert model(images).shape == (2, 10)


def test_a_checkpoint_that_holds_last_and_best(tmp_path, images):
    """Andriushchenko2020Understanding's file nests its weights; robustbench knows."""
    name = "Andriushchenko2020Understanding"
    network = fresh_network(name)
    torch.save({"last": network.state_dict(), "best": {}}, path_of(tmp_path, name))
    with torch.no_grad():
        torch.testing.assert_close(zoo.load_robustbench(entry(name), tmp_path)(images), network(images), rtol=0, atol=0)


def test_names_are_the_registry():
    linf = zoo.model_names("cifar10", "Linf")
    assert len(linf) == 76 and set(NAMES) < set(linf) and linf == sorted(linf)
    assert len(zoo.model_names("cifar10", "L2")) == 21
    with pytest.raises(LookupError, match="robustbench: found cifar10/L7, wanted one of cifar10/"):
        zoo.model_names("cifar10", "L7")


def test_unknown_name(tmp_path):
    with pytest.raises(LookupError, match="'Wong2020Fst' is unknown; did you mean 'Wong2020Fast'"):
        zoo.load_robustbench(entry("Wong2020Fst"), tmp_path)


def test_missing_file_is_named_and_nothing_is_downloaded(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cifar10/Linf/Wong2020Fast\.pt: not found"):
        zoo.load_robustbench(entry("Wong2020Fast"), tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"Chen2020Adversarial\.pt_m0\.pt: not found"
    ):  # an ensemble's first member
        zoo.load_robustbench(entry("Chen2020Adversarial"), tmp_path)
    with pytest.raises(ValueError, match="XCiT-S12 downloads its own weights"):
        zoo.load_robustbench(entry("Debenedetti2022Light_XCiT-S12"), tmp_path)
    assert list(tmp_path.iterdir()) == []


class Canary:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("environment", [None, "1"])
def test_only_tensors_are_read(environment, tmp_path, monkeypatch):
    """Also where the environment asks torch to unpickle anything."""
    if environment:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", environment)
    path = path_of(tmp_path, "Wong2020Fast")
    torch.save({"state_dict": Canary(tmp_path / "canary")}, path)
    with pytest.raises(ValueError, match=r"Wong2020Fast\.pt: refused, wanted tensors .*posix\.mkdir") as error:
        zoo.load_robustbench(entry("Wong2020Fast"), tmp_path)
    assert not (tmp_path / "canary").exists() and "\n" not in str(error.value)
    torch.save({"args": argparse.Namespace(lr=0.1), "state_dict": {}}, path)
    with pytest.raises(ValueError, match=r"refused.*argparse\.Namespace"):
        zoo.load_robustbench(entry("Wong2020Fast"), tmp_path)
    assert torch.load.__module__ == "torch.serialization"  # put back after a failure too


def test_damaged_files_give_one_line(tmp_path):
    path = path_of(tmp_path, "Wong2020Fast")
    torch.save(fresh_network("Wong2020Fast").state_dict(), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:1000], b"", b"hello world"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"Wong2020Fast\.pt: truncated or not a checkpoint") as error:
            zoo.load_robustbench(entry("Wong2020Fast"), tmp_path)
        assert "\n" not in str(error.value)
    torch.save({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"Wong2020Fast\.pt: robustbench cannot load .*size mismatch|Missing") as error:
        zoo.load_robustbench(entry("Wong2020Fast"), tmp_path)
    assert "\n" not in str(error.value)


def test_a_working_torchvision_is_left_alone(monkeypatch):
    """Where the import succeeds (a matching torchvision, or one repaired before) no schema is declared."""
    _compat.import_torchvision()
    before = list(_compat._KEPT)
    monkeypatch.setattr(torch.library, "Library", None)  # calling it would fail
    assert _compat.import_torchvision().__name__ == "torchvision"
    assert before == _compat._KEPT


def test_other_import_errors_are_not_hidden(monkeypatch):
    def broken(name):
        raise RuntimeError("something else is wrong")

    monkeypatch.setattr(_compat.importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="something else"):
        _compat.import_torchvision()


def test_imports_are_late_and_pkg_resources_is_not_needed():
    """Importing training.robustbench.zoo loads nothing foreign; beside setuptools 82, which has no pkg_resources, it
    works."""
    code = """if True:
        import importlib.util, pathlib, sys
        from robustgap.training.robustbench import zoo
        loaded = {"torchvision", "robustbench", "timm", "autoattack"} & set(sys.modules)
        assert not loaded, loaded
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *a: None if name == "pkg_resources" else find(name, *a)
        zoo.model_names("cifar10", "Linf")
        import pkg_resources
        assert not hasattr(pkg_resources, "working_set")
        name = pkg_resources.resource_filename("robustbench.loaders", "helper_files/imagenet_test_image_ids.txt")
        assert pathlib.Path(name).is_file(), name"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_autoattack_by_its_published_interface():
    """On a linear model whose worst case is known: APGD's robust accuracy is that of the exact optimum."""
    zoo.model_names("cifar10", "Linf")
    from autoattack import AutoAttack
    from autoattack.state import EvaluationState

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(10, 12, generator=generator)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(weight)
    x = 0.2 + 0.6 * torch.rand(24, 3, 2, 2, generator=generator)
    y = model(x).argmax(1)
    eps = 0.05
    adversary = AutoAttack(
        model, norm="Linf", eps=eps, seed=0, version="custom", attacks_to_run=["apgd-t"], verbose=False
    )
    adversary.inner.apgd_targeted.n_iter = 10
    x_adv, y_adv = adversary.run_standard_evaluation(x, y, bs=10, return_labels=True)
    margins = model(x).gather(1, y[:, None]) - model(x)
    reach = eps * (weight[y][:, None] - weight[None]).abs().sum(2)
    exact = ((margins - reach).scatter(1, y[:, None], torch.inf) > 0).all(1)
    assert 0 < exact.sum() < 24
    assert torch.equal(y_adv == y, exact)
    assert torch.equal(model(x_adv).argmax(1), y_adv) and float((x_adv - x).abs().max()) <= eps + 1e-6
    assert EvaluationState.__module__ == "pyautoattack.state"
    with pytest.raises(ValueError, match="log_path"):
        AutoAttack(model, log_path="log.txt")
