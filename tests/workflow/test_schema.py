"""Study files: each fault is one line that names the key; what is left out has its default."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from studies import study
from trees import ROOT

from robustgap.training.facts import EXTRA_SET_FACTS
from robustgap.workflow import grid, missing_files
from robustgap.workflow.grid import open_plan
from robustgap.workflow.names import COMMON, letters_and_digits
from robustgap.workflow.study import read_study, resolve
from robustgap.workflow.study_faults import StudyError, schema

ROBUSTBENCH = {"source": "robustbench", "name": "Wong2020Fast", "dataset": "cifar10", "threat": "Linf"}
CASES = {
    "unknown key": (study(sedes=[0]), "sedes: unknown key, did you mean 'seeds'?"),
    "unknown axis": (study(**{"axes.batch_sise": [1]}), "axes.batch_sise: unknown key, did you mean 'batch_size'?"),
    "unknown setting": (study(**{"settings.epoch": 1}), "settings.epoch: unknown key, did you mean 'epochs'?"),
    "seed as an axis": (study(**{"axes.seed": [0]}), "axes.seed: unknown key"),
    "nothing near": (study(zzz=1), "zzz: unknown key; known keys: study, data, norm, eps"),
    "missing key": (study(measures=None), "measures: missing"),
    "data set": (
        study(data="digit"),
        "data: found 'digit', wanted one of digits, digits32, cifar10, cifar100, svhn, mnist",
    ),
    "defense": (
        study(**{"axes.defense": ["AT", "TRADE"]}),
        "axes.defense[1]: found 'TRADE', wanted one of Standard, AT, TRADES, MART, FGSM-RS, FreeAT, ALP, did you mean"
        " 'TRADES'?",
    ),
    "architecture": (study(**{"settings.architecture": "resnet81"}), "did you mean 'resnet18'?"),
    "augmentation": (study(**{"settings.augmentation": "flip"}), "settings.augmentation: found 'flip', wanted one of"),
    "attack": (
        study(**{"outcomes.attacks": ["clean", "pgd"]}),
        "outcomes.attacks[1].attack: found 'pgd', wanted one of",
    ),
    "checkpoint": (study(checkpoints=["final"]), "checkpoints[0]: found 'final', wanted one of last, best"),
    "effective sample size": (study(analysis={"min_ess": 0}), "analysis.min_ess: found 0, wanted a value >= 1"),
    "negative eps": (study(eps=-1), "eps: found -1, wanted a number >= 0"),
    "eps as words": (study(eps="8 / x"), "eps: found '8 / x', wanted a number or a fraction such as 8/255"),
    "eps by zero": (study(eps="8/0"), "eps: found '8/0', wanted a number or a fraction such as 8/255"),
    "eps too wide": (study(eps=8), "eps: found 8, wanted at most 1, the range of an image"),
    "norm": (study(norm="linf"), "norm: found 'linf', wanted one of Linf, L2, did you mean 'Linf'?"),
    "zero epochs": (study(**{"settings.epochs": 0}), "settings.epochs: found 0, wanted a value >= 1"),
    "batch of one": (study(**{"axes.batch_size": [1]}), "axes.batch_size[0]: found 1, wanted a value >= 2"),
    "text for a number": (
        study(**{"settings.lr": "1e-1"}),
        "settings.lr: found '1e-1', wanted a number (YAML reads 1e-1 as text",
    ),
    "schedule": (
        study(**{"axes.schedule": ["piecewise", "cosin"]}),
        "axes.schedule[1]: found 'cosin', wanted one of piecewise, cosine, onecycle, did you mean 'cosine'?",
    ),
    "lr of zero": (study(**{"settings.lr": 0}), "settings.lr: found 0, wanted a value > 0"),
    "momentum of one": (study(**{"settings.momentum": 1}), "settings.momentum: found 1, wanted a value < 1"),
    "no step": (study(**{"settings.fgsm_alpha": 0}), "settings.fgsm_alpha: found 0, wanted a value > 0"),
    "weight below 0": (study(**{"settings.alp_weight": -1}), "settings.alp_weight: found -1, wanted a value >= 0"),
    "no replay": (study(**{"axes.free_replays": [0]}), "axes.free_replays[0]: found 0, wanted a value >= 1"),
    "penalty below 0": (study(**{"axes.grad_align": [0, -0.2]}), "axes.grad_align[1]: found -0.2, wanted a value >= 0"),
    "sharpness": (study(**{"settings.sam": "SAMM"}), "settings.sam: found 'SAMM', wanted one of none, SAM, ASAM, did"),
    "radius": (study(**{"settings.asam_rho": 0}), "settings.asam_rho: found 0, wanted a value > 0"),
    "two perturbations of the weights": (
        study(**{"settings.awp": True, "axes.sam": ["none", "SAM"]}),
        "sam: found 'SAM' with awp, wanted only one of the two in a training; see `exclude`",
    ),
    "average of nothing": (study(**{"axes.ema_decay": [0, 1]}), "axes.ema_decay[1]: found 1, wanted a value < 1"),
    "all of the label": (
        study(**{"settings.label_smoothing": 1}),
        "settings.label_smoothing: found 1, wanted a value < 1",
    ),
    "not a number": (study(**{"settings.lr": float("nan")}), "settings.lr: found nan, wanted a finite number"),
    "number for a switch": (study(**{"settings.awp": 1}), "settings.awp: found 1, wanted a boolean"),
    "value twice": (study(**{"axes.batch_size": [32, 32]}), "axes.batch_size: found 32 twice, wanted distinct values"),
    "seed twice": (study(seeds=[1, 1]), "seeds: found 1 twice, wanted distinct values"),
    "no seeds": (study(seeds=[]), "seeds: found nothing, wanted at least one value"),
    "negative seed": (study(seeds=[-1]), "seeds[0]: found -1, wanted a value >= 0"),
    "empty axis": (study(**{"axes.defense": []}), "axes.defense: found nothing, wanted at least one value"),
    "no axes, no models": (study(axes={}), "axes: found nothing, wanted at least one axis, or models"),
    "axis and setting": (study(**{"settings.batch_size": 64}), "axes.batch_size: also a fixed setting"),
    "best of one epoch": (study(**{"settings.epochs": 1}), "settings.epochs: found 1, wanted at least 2: `best`"),
    "best of one epoch on an axis": (
        study(**{"settings.epochs": None, "axes.epochs": [4, 1]}),
        "axes.epochs[1]: found 1, wanted at least 2",
    ),
    "chunks": (study(chunks=0), "chunks: found 0, wanted a value >= 1"),
    "too many chunks": (study(chunks=1001), "chunks: found 1001, wanted a value <= 1000"),
    "train jobs": (study(train_jobs="runs"), "train_jobs: found 'runs', wanted one of chunk, run, did you mean 'run'?"),
    "no process": (study(train_processes=0), "train_processes: found 0, wanted a value >= 1"),
    "half a process": (study(train_processes=1.5), "train_processes: found 1.5, wanted an integer"),
    "processes for one run": (
        study(train_processes=4, train_jobs="run"),
        "train_processes: found 4, wanted 1 with train_jobs: run, one run per job",
    ),
    "study name": (study(study="../x"), "study: found '../x', wanted text of the form"),
    "no clean accuracy": (study(**{"outcomes.attacks": ["pgd10"]}), "outcomes.attacks: 'clean' is missing"),
    "no pgd10": (
        study(**{"outcomes.attacks": ["clean"], "analysis.outcome": "gap_clean"}),
        "outcomes.attacks: 'pgd10' is missing",
    ),
    "too many measure images": (study(measure_images=501), "measure_images: found 501, wanted at most 500"),
    "more measure images than are judged": (
        study(measure_images=64, **{"outcomes.train_images": 50}),
        "measure_images: found 64, wanted at most 50, outcomes.train_images",
    ),
    "outcome without its attack": (
        study(**{"analysis.outcome": "gap_fgsm", "outcomes.attacks": ["clean", "pgd10"]}),
        "analysis.outcome: found 'gap_fgsm', wanted a gap, an accuracy or a loss of outcomes.attacks, or a measure",
    ),
    "a seed of 64 bits": (study(seeds=[2**64]), f"seeds[0]: found {2**64}, wanted a value <= {2**31 - 1}"),
    "too many test images": (study(**{"outcomes.test_images": 898}), "outcomes.test_images: found 898, wanted at most"),
    "pool where there is none": (
        study(data="cifar10", **{"settings.extra_data": "pool"}),
        "settings.extra_data: found 'pool', but cifar10 has no extra images",
    ),
    "extra images of another data set": (
        study(**{"axes.extra_data": ["none", "ti500k"]}),
        "axes.extra_data[1]: found 'ti500k', which has images for cifar10 only",
    ),
    "extra images": (
        study(**{"settings.extra_data": "ti50k"}),
        "settings.extra_data: found 'ti50k', wanted one of none, pool, ti500k, ddpm, edm1m, did you mean 'ti500k'?",
    ),
    "checksum": (study(extra_sha256={"ti500k": "abc"}), "extra_sha256.ti500k: found 'abc', wanted text of the form"),
    "checksum of nothing": (study(extra_sha256={"ti": "abc"}), "extra_sha256.ti: unknown key"),
    "offline": (study(offline="yes"), "offline: found 'yes', wanted a boolean"),
    "measure": (
        study(measures=["average_cee"]),
        "measures[0]: nothing makes 'average_cee', did you mean 'average_ce'?",
    ),
    "measure twice": (study(measures=["average_ce"] * 2), "measures: found 'average_ce' twice"),
    "no measures": (study(measures=[]), "measures: found nothing, wanted at least one value"),
    "measures as text": (study(measures="average_ce"), "measures: found 'average_ce', wanted a list of names or all"),
    "rule file": (study(extra_rules=["gone.smk"]), "extra_rules[0]: no file gone.smk"),
    "exclusion without reason": (study(exclude=[{"where": {"awp": True}}]), "exclude[0].reason: missing"),
    "exclusion of nothing": (study(exclude=[{"where": {}, "reason": "x"}]), "exclude[0].where: found nothing"),
    "exclusion by an unknown setting": (
        study(exclude=[{"where": {"batchsize": 32}, "reason": "x"}]),
        "exclude[0].where.batchsize: unknown setting, did you mean 'batch_size'?",
    ),
    "exclusion of a value nobody has": (
        study(exclude=[{"where": {"defense": ["AT", "MART"]}, "reason": "x"}]),
        "exclude[0].where.defense: found 'MART', the grid has Standard, AT, TRADES",
    ),
    "zoo without threat": (
        study(models=[{key: ROBUSTBENCH[key] for key in ("source", "name", "dataset")}]),
        "models[0].threat: missing",
    ),
    "zoo": (study(models=[{**ROBUSTBENCH, "source": "timm"}]), "models[0].source: found 'timm', wanted one of"),
    "file without architecture": (
        study(models=[{"source": "file", "name": "mine", "file": "x.pt"}]),
        "models[0].architecture: missing",
    ),
    "file twice": (
        study(models=[{"source": "file", "name": "mine", "file": f"{x}.pt", "architecture": "mlp"} for x in "ab"]),
        "models: found 'mine' twice, wanted distinct names",
    ),
    "name of others": (
        study(**{"settings.learning_rate": 1}),
        "settings.learning_rate: unknown key, did you mean 'lr'?",
    ),
    "name of an axis by others": (study(**{"axes.wd": [1]}), "axes.wd: unknown key, did you mean 'weight_decay'?"),
    "key in other letters": (
        study(**{"settings.Batch-Size": 1}),
        "Batch-Size: unknown key, did you mean 'batch_size'?",
    ),
    "value in other letters": (study(**{"axes.defense": ["trades"]}), "did you mean 'TRADES'?"),
    "value by others": (study(**{"axes.defense": ["PGD-AT"]}), "did you mean 'AT'?"),
    "attack by others": (study(**{"outcomes.attacks": ["clean", "PGD"]}), "did you mean 'pgd10'?"),
    "data set in other letters": (study(data="CIFAR-10"), "did you mean 'cifar10'?"),
    "network in other letters": (study(**{"settings.architecture": "WRN-34-10"}), "did you mean 'wrn34_10'?"),
    "no value": (study(seeds={}) | {"seeds": None}, "seeds: found nothing, wanted a list"),
    "a list for a text": (study(data=["digits"]), "data: found [digits], wanted one of digits"),
    "a switch for a number": (study(chunks=True), "chunks: found true, wanted an integer"),
    "keys for a list": (study(seeds={"a": None}), "seeds: found {a: null}, wanted a list"),
    "a list for keys": (study() | {"settings": [1]}, "settings: found [1], wanted keys and values"),
    "a number for a text or list": (study(measures=3), "measures: found 3, wanted a list or text"),
    "numbers as --config reads them": (
        study(seeds=["0", "1"]),
        "seeds[0]: found '0', wanted an integer (0 is text: write it without quotes; --config turns numbers",
    ),
    "a list as --config reads it": (study(seeds="0,1"), "seeds: found '0,1', wanted a list (in --config, put brackets"),
    "draws": (study(analysis={"draws": 1}), "analysis.draws: found 1, wanted a value >= 100"),
}


@pytest.mark.parametrize(("config", "line"), CASES.values(), ids=CASES)
def test_each_fault_is_one_line_that_names_file_and_key(config: dict, line: str, tmp_path: Path, capsys):
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(config))
    assert grid.main([str(file)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    told = printed.err.splitlines()[0]
    assert len(printed.err.splitlines()) == (2 if line.startswith("seeds[0]: found '0'") else 1)
    assert told.startswith(f"{file}: ") and line in told
    assert list(tmp_path.iterdir()) == [file]


def test_several_faults_are_several_lines():
    with pytest.raises(StudyError) as caught:
        resolve(study(seeds=[], chunks=0, zzz=1), "f.yaml")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["zzz", "chunks", "seeds"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: [1", "not YAML"),
        ("- 1\n", "found list, wanted keys and values"),
        ("", "found nothing, wanted keys and values"),
        ("3\n", "found a number, wanted keys and values"),
        ("seeds: [0]\ndata: digits\nseeds: [1]\n", "line 3: found key 'seeds' twice (first in line 1)"),
        ("settings: {lr: 0.1, lr: 0.2}\n", "line 1: found key 'lr' twice (first in line 1)"),
        ("\0", "not YAML"),
    ],
)
def test_a_file_that_is_no_study_is_one_line(content: str, told: str, tmp_path: Path, capsys):
    file = tmp_path / "wrong.yaml"
    file.write_text(content)
    assert grid.main([str(file)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{file}: {told}")


def test_a_missing_file_names_the_nearest_study(capsys):
    assert grid.main(["workflow/config/digit.yaml"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("workflow/config/digit.yaml: ") and "did you mean 'digits'?" in line


def test_a_missing_file_that_is_near_to_nothing_lists_the_studies(capsys):
    assert grid.main(["workflow/config/nosuch.yaml"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert ", wanted a file or one of cifar10, cifar10-small, digits, digits-full, " in line and "schema" not in line
    assert "did you mean" not in line


def test_merged_keys_are_not_keys_that_stand_twice(tmp_path: Path):
    (tmp_path / "f.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert read_study(tmp_path / "f.yaml")["b"] == {"x": 3, "y": 2}


def test_snakemake_takes_no_key_twice_either(tmp_path: Path):
    (tmp_path / "f.yaml").write_text(yaml.safe_dump(study()) + "eps: '1/10'\n")
    with pytest.raises(SystemExit, match="found key 'eps' twice"):
        grid.plan_or_exit(study(), [tmp_path / "f.yaml"])


def test_every_name_of_others_leads_to_a_name_of_ours():
    known = set(schema()["properties"]) | set(schema()["properties"]["outcomes"]["properties"])
    settings = schema()["properties"]["settings"]["properties"]
    known |= set(settings) | {value for rule in settings.values() for value in rule.get("enum", [])}
    known |= {value for key in ("norm", "data") for value in schema()["properties"][key]["enum"]}
    known |= set(schema()["properties"]["checkpoints"]["items"]["enum"]) | {"pgd10"}
    assert set(COMMON) <= known
    assert all(letters_and_digits(name) == name for names in COMMON.values() for name in names.split())


def test_the_plan_tells_which_files_are_to_be_got_by_hand(tmp_path: Path):
    def lines(**changes: object) -> list[str]:
        given = study(data="cifar10", data_dir=str(tmp_path), **{"settings.extra_data": "ti500k"}, **changes)
        return [text for _, text in missing_files.summary_lines(open_plan(given, "s"))]

    file = tmp_path / EXTRA_SET_FACTS["ti500k"].files["cifar10"].path
    gone, checksum = lines()
    assert gone.startswith(f"{file}: extra images ti500k have no address") and checksum.startswith(
        "extra_sha256.ti500k"
    )
    assert lines(mirrors=["https://x.org/copies"]) == [checksum]
    assert lines(extra_sha256={"ti500k": "0" * 64}) == [gone]
    file.touch()
    assert lines(extra_sha256={"ti500k": "0" * 64}) == []
    models = [ROBUSTBENCH, {"source": "file", "name": "m", "file": str(tmp_path / "m.pt"), "architecture": "mlp"}]
    both = study(models=models, model_dir=str(tmp_path))
    (line,) = [text for _, text in missing_files.summary_lines(open_plan(both, "s"))]
    assert line == f"2 of 2 checkpoints are not there: {tmp_path}/cifar10/Linf/Wong2020Fast.pt, and 1 more"
    (tmp_path / "m.pt").touch()
    assert "1 of 2 checkpoints" in missing_files.summary_lines(open_plan(both, "s"))[0][1]


@pytest.mark.parametrize(
    "command", [["robustgap.workflow.grid", "workflow/config/digits-tiny.yaml"], ["robustgap.measures", "list"]]
)
def test_a_reader_that_has_seen_enough_is_no_error(command: list[str]):
    """As `| head`: nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300
    )
    os.close(writer)
    assert ran.returncode == 0 and ran.stderr == ""


def test_defaults_are_filled_in_and_resolving_again_changes_nothing():
    full = resolve(study(), "f")
    assert full["checkpoints"] == ["last", "best"] and full["measure_images"] == 256 and full["exclude"] == []
    assert full["outcomes"]["batch_size"] == 512 and full["analysis"]["draws"] == 2000
    assert resolve(full, "f") == full


def test_all_measures_are_named():
    assert "average_ce" in resolve(study(measures="all"), "f")["measures"]


def test_a_rule_file_brings_its_measures(tmp_path: Path):
    rule = tmp_path / "extra.smk"
    rule.write_text("rule compute_by_hand:\n    output: 'x'\n")
    assert resolve(study(measures=["by_hand"], extra_rules=[str(rule)]), "f")["measures"] == ["by_hand"]
    with pytest.raises(StudyError, match="nothing makes 'by_hands', did you mean 'by_hand'"):
        resolve(study(measures=["by_hands"], extra_rules=[str(rule)]), "f")
    rule.write_text("rule compute_average_ce:\n    output: 'x'\n")
    with pytest.raises(StudyError, match=r"makes 'average_ce', which measures/average_ce\.py makes already"):
        resolve(study(extra_rules=[str(rule)]), "f")


def test_a_whole_number_may_be_written_as_a_float():
    given = {"chunks": 3, "measure_images": 64, "seeds": [1], "outcomes.train_images": 200, "analysis.draws": 100}
    given |= {"settings.epochs": 3, "settings.width": 8, "train_processes": 2}
    floats = {key: [float(one) for one in value] if key == "seeds" else float(value) for key, value in given.items()}
    written, found = (json.dumps(resolve(study(**values), "f")) for values in (given, floats))
    assert written == found
    model = {"source": "file", "name": "m", "file": "m.pt", "architecture": "cnn", "width": 16.0}
    assert '"width": 16}' in json.dumps(resolve(study(models=[model]), "f"))
