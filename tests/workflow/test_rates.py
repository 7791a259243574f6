"""GPU-hours from a table of measured speeds, and disk from the sizes of networks."""

import pytest
import torch
from trees import ROOT

from benchmarks import training as benchmark
from robustgap.training.facts import NETWORK_FACTS
from robustgap.training.networks.architectures import ARCHITECTURES
from robustgap.training.settings import complete
from robustgap.workflow import grid
from robustgap.workflow.estimate import disk, hours, rates
from robustgap.workflow.grid import open_plan
from robustgap.workflow.study import read_study
from robustgap.workflow.study_faults import StudyError

HEAD = ",".join(rates.RATE_COLUMNS)
STUDY = {
    "study": "s",
    "data": "cifar10",
    "norm": "Linf",
    "eps": "8/255",
    "settings": {"epochs": 2},
    "axes": {"architecture": ["resnet18"]},
    "seeds": [0],
    "measures": ["average_ce"],
    "outcomes": {"attacks": ["clean", "pgd10"]},
}


def plan_of(**changes):
    return open_plan({**STUDY, **changes}, "s")


def table(tmp_path, *lines):
    path = tmp_path / "rates.csv"
    path.write_text("\n".join([HEAD, *lines, ""]))
    return path


def hours_of(tmp_path, plan, *lines):
    ((device, found),) = rates.read_rates(table(tmp_path, *lines)).items()
    return rates.device_hours(plan, device, found)


def test_an_epoch_takes_its_images_over_the_rate(tmp_path):
    """49,000 images at 980 a second: 50 s; then accuracies, in passes, of which a step has 8."""
    found = hours_of(tmp_path, plan_of(), "G,resnet18,float32,False,980")
    look = (
        2000
        / 980
        / 8
        * (hours.FORWARD + hours.FORWARD + 10 * hours.ATTACK_STEP + (hours.FORWARD + hours.ATTACK_STEP) / 2)
    )
    assert found.stages["training"] * 3600 == pytest.approx(2 * (50 + look + hours.EPOCH))
    assert found.device == "G" and found.scaled == found.unknown == []


def test_the_way_of_the_settings_decides_and_accuracies_are_taken_in_float32(tmp_path):
    lines = ["G,resnet18,float32,True,100", "G,resnet18,bfloat16,True,1000"]
    settings = {"epochs": 2, "channels_last": True}
    full = hours_of(tmp_path, plan_of(settings=settings), *lines)
    half = hours_of(tmp_path, plan_of(settings={**settings, "precision": "bfloat16"}), *lines)
    assert half.stages["training"] < full.stages["training"] / 4
    assert half.stages["outcomes"] == full.stages["outcomes"] and half.stages["measures"] == full.stages["measures"]
    assert hours_of(tmp_path, plan_of(), *lines).unknown == ["resnet18"]  # contiguous was not measured


def test_other_residual_networks_are_estimated_and_said_to_be(tmp_path):
    wide = plan_of(axes={"architecture": ["resnet18", "wrn28_10", "cnn"]})
    found = hours_of(tmp_path, wide, "G,resnet18,float32,False,1000")
    assert found.scaled == ["wrn28_10"] and found.unknown == ["cnn"]
    alone = hours_of(tmp_path, plan_of(), "G,resnet18,float32,False,1000")
    assert found.stages["measures"] / alone.stages["measures"] == pytest.approx(
        1 + NETWORK_FACTS["wrn28_10"].resnet18s.image
    )
    measured = hours_of(tmp_path, wide, "G,resnet18,float32,False,1000", "G,wrn28_10,float32,False,500")
    assert measured.scaled == [] and measured.stages["measures"] / alone.stages["measures"] == pytest.approx(3)


@pytest.mark.parametrize(
    "line, message",
    [
        ("G,resnet18,float32,False,fast", "line 2: images_per_second: found 'fast', wanted a number > 0"),
        ("G,resnet18,float32,False,0", "line 2: images_per_second: found '0', wanted a number > 0"),
        ("G,resnet18,float32,False", "line 2: found no images_per_second, wanted device, architecture"),
    ],
)
def test_a_wrong_table_is_one_line(line, message, tmp_path, capsys):
    path = table(tmp_path, line)
    with pytest.raises(StudyError, match=message):
        rates.read_rates(path)
    assert grid.main(["workflow/config/cifar10-small.yaml", "--rates", str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert grid.main(["workflow/config/cifar10-small.yaml", "--rates", str(tmp_path / "no.csv")]) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'no.csv'}: No such file or directory\n"


def test_grid_reads_what_the_benchmark_writes(tmp_path, capsys):
    path = tmp_path / "new.csv"
    speeds = [
        benchmark.Speed("resnet18", "plain", 128, 1.0, 1.0, torch.float32),
        benchmark.Speed("resnet18", "ours", 128, 0.05, 1.0, torch.float32),
        benchmark.Speed("wrn28_10", "ours, channels_last, bfloat16", 128, 0.5, 1.0, torch.bfloat16),
    ]
    benchmark.add_rates(path, "Device 9000", speeds[:2])
    benchmark.add_rates(path, "Device 9000", speeds[2:])
    found = rates.read_rates(path)["Device 9000"]
    assert found == {
        rates.Way("resnet18", "float32", False): 2560,
        rates.Way("wrn28_10", "bfloat16", True): 256,
    }
    assert grid.main(["workflow/config/cifar10-small.yaml", "--rates", str(path)]) == 0
    assert "\none Device 9000 " in capsys.readouterr().out
    assert rates.read_rates(rates.RATES) is not None
    assert grid.main(["workflow/config/digits-tiny.yaml"]) == 0
    assert "GPU-hours" not in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_sizes_of_networks_are_those_of_the_networks(name):
    with torch.device("meta"):
        assert disk.parameters(name, 0, "cifar10") == sum(
            p.numel() for p in ARCHITECTURES[name](10, 3, image_size=32).parameters()
        )
        half = NETWORK_FACTS[name].width // 2
        own = sum(p.numel() for p in ARCHITECTURES[name](10, 3, image_size=32, width=half).parameters())
    assert disk.parameters(name, half, "cifar10") == pytest.approx(own, rel=0.5)


SHAPES = {"digits": (10, 1, 8), "mnist": (10, 1, 28), "tiny_imagenet": (200, 3, 64)}  # classes, channels, side


@pytest.mark.parametrize("data", SHAPES)
@pytest.mark.parametrize("width", [0, 12])
def test_sizes_of_small_networks_are_exact_and_of_resnets_nearly_for_every_data_set(data, width):
    classes, channels, side = SHAPES[data]
    for name in ("cnn", "mlp", "resnet18"):
        with torch.device("meta"):
            made = ARCHITECTURES[name](classes, channels, image_size=side, **({"width": width} if width else {}))
        own = sum(p.numel() for p in made.parameters())
        assert disk.parameters(name, width, data) == (own if name != "resnet18" else pytest.approx(own, rel=0.25))


def test_disk_of_the_papers_grid():
    """672 runs of three networks, three checkpoints each; 1,344 models' images of 3,072 values; four bytes a number."""
    study = read_study(ROOT / "workflow/config/cifar10.yaml")
    found = disk.bytes_by_kind(open_plan(study, "cifar10"))
    sizes = [disk.parameters(name, 0, "cifar10") for name in study["axes"]["architecture"]]
    assert found["weights"] == 12 * 224 * sum(sizes)
    bits = 20_000 * 3  # images shown and attacks
    assert found["images"] == 1344 * (4 * 1000 * 3072 + bits / 8)
    assert found["training"] == 12 * max(sizes)
    assert 0 < found["rest"] < 0.01 * found["weights"]
    assert complete({})["width"] == 0
