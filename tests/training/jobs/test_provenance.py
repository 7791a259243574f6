"""A reproducible study computes in one arithmetic or not at all, and what computed a result stands beside it."""

import json
import os
import subprocess

import pytest
import torch
from planted import make_plan, plant
from small_runs import CPU, interrupted, settings_of, train
from studies import study
from trees import ROOT

from robustgap.measures._chunk import run as run_measures
from robustgap.training.__main__ import main
from robustgap.training.checkpoint import content_digest, load_tensors, read_json, save_tensors
from robustgap.training.jobs import provenance
from robustgap.training.jobs.provenance import commit, made_by, require_reproducible, study_device, unpinned
from robustgap.training.jobs.run_record import require_same_arithmetic
from robustgap.training.settings import REPRODUCIBLE
from robustgap.workflow.grid import open_plan
from robustgap.workflow.jobs import Jobs, shell_prefix

PINNED = {"reproducible": True}
HAS_AVX2 = torch.cpu.get_capabilities().get("avx2", False)


def pin(monkeypatch, capability="AVX2", avx2=True, threads=1):
    """Make this process look like one that the workflow started for a reproducible study."""
    for name, value in REPRODUCIBLE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": avx2})
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)


@pytest.mark.skipif(not HAS_AVX2, reason="this CPU has no AVX2")
def test_a_reproducible_job_and_its_processes_compute_with_the_instructions_for_avx2(tmp_path):
    runs = [{"defense": "Standard", "seed": seed} for seed in (0, 1)]
    plan = make_plan(runs, **PINNED)
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    options = f"--plan {tmp_path / 'plan.json'} --batch 000 --out {tmp_path / 'runs' / '000.json'} --processes 2"
    command = f"{shell_prefix(reproducible=True)}robustgap_python -m robustgap.training train {options}"
    bare = {name: value for name, value in os.environ.items() if name not in REPRODUCIBLE}
    subprocess.run(command, shell=True, cwd=ROOT, env=bare, check=True, capture_output=True)
    for run in plan["runs"]:
        (part,) = read_json(tmp_path / "runs" / run / "run.json")["made_by"]
        assert (part["instructions"], part["reproducible"], part["threads"]) == ("AVX2", True, 1)
        require_same_arithmetic(PINNED, tmp_path / "runs" / run)


@pytest.mark.parametrize("stage", ["data", "train", "outcomes", "measures"])
def test_every_job_refuses_another_arithmetic_in_one_line(tmp_path, monkeypatch, capsys, stage):
    for name in REPRODUCIBLE:
        monkeypatch.delenv(name, raising=False)
    plan = make_plan([{}], **PINNED)
    (run,) = plan["runs"]
    plant(plan, tmp_path, run)
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    told = (
        "reproducible: found ATEN_CPU_CAPABILITY not set, ONEDNN_MAX_CPU_ISA not set, MKL_CBWR not set, wanted ATEN_CPU"
    )
    if stage == "measures":
        with pytest.raises(ValueError, match=told):
            run_measures(["param_norm"], plan, "000", tmp_path)
        return
    part = {"train": ["--batch", "000"], "outcomes": ["--chunk", "000"]}.get(stage, [])
    out = tmp_path / "out"
    assert main([stage, "--plan", str(tmp_path / "plan.json"), *part, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize(
    "given, told",
    [
        ({}, ""),
        ({"capability": "AVX512"}, "found kernels for AVX512"),  # torch was there before the environment was set
        ({"avx2": False}, "found a CPU without AVX2"),
        ({"threads": 2}, "found 2 threads"),
    ],
)
def test_the_environment_alone_does_not_do(monkeypatch, given, told):
    pin(monkeypatch, **given)
    assert unpinned().startswith(told) and bool(unpinned()) == bool(told)
    assert made_by(CPU)["reproducible"] is (not told)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert "MKL_CBWR COMPATIBLE" in unpinned()


def test_a_reproducible_study_stays_on_the_cpu(monkeypatch):
    pin(monkeypatch)
    monkeypatch.setattr(provenance, "pick_device", lambda name: torch.device("cuda"))
    assert study_device(PINNED) == CPU and study_device({}).type == "cuda"
    with pytest.raises(ValueError, match="--device: found cuda with reproducible: true, wanted cpu"):
        study_device(PINNED, "cuda")


def test_a_run_of_other_arithmetic_is_refused_and_left_as_it_is(tmp_path):
    folder, record = train(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    require_same_arithmetic({}, folder)
    with pytest.raises(ValueError, match=f"{folder}/run.json: found a run trained in other arithmetic .* on "):
        require_same_arithmetic(PINNED, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    pinned = {**record, "made_by": [{**record["made_by"][0], "reproducible": True}]}
    (folder / "run.json").write_text(json.dumps(pinned))
    require_same_arithmetic(PINNED, folder)
    mixed = {**pinned, "made_by": [*pinned["made_by"], *record["made_by"]]}
    (folder / "run.json").write_text(json.dumps(mixed))
    with pytest.raises(ValueError, match="other arithmetic"):
        require_same_arithmetic(PINNED, folder)


def test_so_is_one_that_was_begun_in_it(tmp_path, monkeypatch):
    folder = interrupted(tmp_path, monkeypatch, 1)
    with pytest.raises(ValueError, match=r"resume.safetensors: found a run trained in other arithmetic"):
        require_same_arithmetic(PINNED, folder)


def test_a_run_that_went_on_elsewhere_names_both(tmp_path, monkeypatch):
    folder = interrupted(tmp_path, monkeypatch, 1)
    here = made_by(CPU)
    sidecar = folder / "resume.safetensors"
    tensors, metadata = load_tensors(sidecar)
    progress = json.loads(metadata["progress"])
    assert progress["made_by"] == [here]
    progress["made_by"] = [{**here, "cpu": "another"}]
    save_tensors(sidecar, tensors, **{**metadata, "progress": json.dumps(progress)})
    _, record = train(tmp_path)
    assert [part["cpu"] for part in record["made_by"]] == ["another", here["cpu"]]


def test_a_commit_is_named_where_there_is_a_checkout(monkeypatch, tmp_path):
    found = commit()
    assert (len(found.removesuffix("-dirty")) == 40) == (ROOT / ".git").exists()
    commit.cache_clear()
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert commit() == ""
    commit.cache_clear()


def test_weights_are_told_apart_by_content_and_not_by_metadata(tmp_path):
    folder, record = train(tmp_path)
    last = load_tensors(folder / "last.safetensors")[0]
    assert record["weights_sha256"]["last"] == content_digest(last, {})
    save_tensors(tmp_path / "again.safetensors", last, other="metadata")
    assert content_digest(load_tensors(tmp_path / "again.safetensors")[0], {}) == record["weights_sha256"]["last"]
    name = next(iter(last))
    changed = {**last, name: last[name] + 1}
    assert content_digest(changed, {}) != content_digest(last, {})
    assert content_digest({f"x{key}": value for key, value in last.items()}, {}) != content_digest(last, {})
    assert content_digest({**last, name: last[name].reshape(-1)}, {}) != content_digest(last, {})


@pytest.mark.parametrize(
    "given, place",
    [
        ({"settings.precision": "bfloat16"}, "settings.precision"),
        ({"axes.precision": ["float32", "bfloat16"]}, r"axes.precision\[1\]"),
    ],
)
def test_bfloat16_is_no_precision_of_a_reproducible_study(given, place):
    open_plan(study(**given), "x.yaml")
    wanted = f"^x.yaml: {place}: found 'bfloat16' with reproducible: true, wanted float32: [^\n]*$"
    with pytest.raises(ValueError, match=wanted):
        open_plan(study(**given, reproducible=True), "x.yaml")


def test_jobs_of_a_reproducible_study_are_others(tmp_path):
    """Else what was computed in other arithmetic would count as done; and no id changes, nor any digest without it."""
    plain, pinned = (Jobs(open_plan(study(reproducible=told), "x.yaml")) for told in (False, True))
    assert plain.plan["runs"] == pinned.plan["runs"] and plain.plan["models"] == pinned.plan["models"]
    assert all(f"{name}={value} " in pinned.shell_prefix(()) for name, value in list(REPRODUCIBLE.items())[:-1])
    assert not any(name in plain.shell_prefix(()) for name in REPRODUCIBLE)
    batch = type("Wildcards", (), {"batch": next(iter(plain.plan["batches"])), "chunk": plain.chunks[0]})
    assert plain.batch_digest(batch) != pinned.batch_digest(batch)
    assert plain.chunk_digest(batch) != pinned.chunk_digest(batch)
    require_reproducible(plain.study)


def test_settings_do_not_hold_it():
    with pytest.raises(ValueError, match="unknown"):
        settings_of(reproducible=True)
