"""Files of runs that were trained before layers were renamed: whole, of the right run, and of no use. Each is named and
its run trained again."""

import json

import pytest
import torch
from planted import judge, make_plan, plant
from small_runs import interrupted, same_weights, train

from robustgap.measures.__main__ import main as measures
from robustgap.training.__main__ import main
from robustgap.training.checkpoint import file_digest, load_tensors, load_weights, read_json, save_tensors, write_json
from robustgap.training.jobs.frozen_images import cache_file


@pytest.mark.parametrize("name", ["init", "last", "best"])
def test_a_finished_run_whose_layers_have_other_names_or_shapes_is_trained_again(name, tmp_path, capsys):
    folder, record = train(tmp_path)
    file, whole = folder / f"{name}.safetensors", (folder / f"{name}.safetensors").read_bytes()
    state = load_weights(file)
    layer = "1.5.weight"
    for change, found in (
        ({"1.linear.weight": state.pop(layer)}, "1.linear.weight (10, 64)"),
        ({layer: torch.zeros(10, 65)}, f"{layer} (10, 65)"),
    ):
        save_tensors(file, {**state, **change}, run=folder.name)
        write_json(folder / "run.json", {**record, "files": {**record["files"], file.name: file_digest(file)}})
        again = train(tmp_path)[1]
        told = f"{file}: found {found}, wanted {layer} (10, 64): not of this network: training run {folder.name} again"
        assert told in capsys.readouterr().err.splitlines()
        assert again["files"][file.name] == record["files"][file.name] and file.read_bytes() == whole


def test_a_sidecar_of_other_tensors_is_refused_by_name(tmp_path, monkeypatch, capsys):
    """As one is that was written before layers were renamed, or shaped otherwise: the run starts again."""
    given = {"defense": "FreeAT", "ema_decay": 0.9, "free_replays": 2}
    unbroken, _ = train(tmp_path / "unbroken", **given)
    sidecar = interrupted(tmp_path, monkeypatch, 2, **given) / "resume.safetensors"
    tensors, metadata = load_tensors(sidecar)
    layer, image = "model.1.0.0.weight", "carried.perturbation"
    for found, wanted in (
        (
            {"model.conv.weight": tensors[layer], layer: None},
            (r"model.conv.weight (4, 1, 3, 3)", f"{layer} (4, 1, 3, 3)"),
        ),
        ({layer: tensors[layer][:, :, :2]}, (f"{layer} (4, 1, 2, 3)", f"{layer} (4, 1, 3, 3)")),
        ({image: None}, ("none of them", f"{image} (128, 1, 8, 8)")),
        ({image: tensors[image][:9]}, (f"{image} (9, 1, 8, 8)", f"{image} (128, 1, 8, 8)")),
        ({"best.1.5.bias": torch.zeros(9)}, ("best.1.5.bias (9,)", "best.0.mean (1, 1, 1, 1), ")),
        ({"momentum.gone": torch.zeros(2)}, ("momentum.gone (2,)", "none of them")),
    ):
        changed = {**tensors, **found}
        save_tensors(sidecar, {key: value for key, value in changed.items() if value is not None}, **metadata)
        resumed, _ = train(tmp_path, **given)
        said = capsys.readouterr().err
        assert f"{sidecar}: found {wanted[0]}" in said and f", wanted {wanted[1]}" in said, said
        assert f"run {resumed.name} starts again" in said and same_weights(unbroken, resumed)
        (resumed / "run.json").unlink()


def judged_by_command(plan, results):
    (results / "plan.json").write_text(json.dumps(plan))
    arguments = ["outcomes", "--plan", str(results / "plan.json"), "--chunk", "000", "--results", str(results)]
    return main([*arguments, "--out", str(results / "outcomes" / "000.parquet"), "--device", "cpu"])


def test_weights_of_renamed_layers_are_named_and_their_run_trained_anew(tmp_path, capsys):
    """They are the file that training wrote, so no checksum tells: outcomes and measures do, and have it trained."""
    plan = make_plan([{"seed": 0}])
    (run,) = plan["runs"]
    plant(plan, tmp_path, run)
    judge(plan, tmp_path)
    folder, manifest = tmp_path / "runs" / run, tmp_path / "runs" / "000.json"
    state, record = load_weights(folder / "last.safetensors"), read_json(folder / "run.json")
    state["1.linear.bias"] = state.pop("1.5.bias")
    save_tensors(folder / "last.safetensors", state)
    record["files"]["last.safetensors"] = file_digest(folder / "last.safetensors")
    write_json(folder / "run.json", record)
    told = (
        f"error: {folder / 'last.safetensors'}: found 1.linear.bias (10,), wanted 1.5.bias (10,): not of this network"
    )
    told += ": run again, and it is trained anew\n"
    write_json(manifest, {})
    capsys.readouterr()
    assert judged_by_command(plan, tmp_path) == 1
    assert capsys.readouterr().err.endswith(told) and not manifest.exists()

    made_before = cache_file(plan, tmp_path, f"{run}-best").read_bytes()  # by a version that knew those names
    cache_file(plan, tmp_path, f"{run}-last").write_bytes(made_before)
    write_json(manifest, {})
    chunk = ["--plan", str(tmp_path / "plan.json"), "--chunk", "000", "--results", str(tmp_path)]
    assert judged_by_command(plan, tmp_path) == 0 and manifest.exists()
    capsys.readouterr()
    assert measures(["run", "average_ce", *chunk]) == 1
    assert capsys.readouterr().err.endswith(told) and not manifest.exists()
    training = ["train", *chunk[:2], "--batch", "000", "--results", str(tmp_path), "--out", str(manifest)]
    assert main([*training, "--device", "cpu"]) == 0 and judged_by_command(plan, tmp_path) == 0
    assert measures(["run", "average_ce", *chunk]) == 0
