"""Measures on one chunk of a real, tiny study: one of them, several, all."""

import csv
import json
import os
import shutil
from dataclasses import replace

import pytest
from measure_studies import command, make_study, table, values

from robustgap.measures import __main__ as cli
from robustgap.measures import core
from robustgap.measures._chunk import COLUMNS
from robustgap.measures._code import code_id, names
from robustgap.training.jobs import frozen_images
from robustgap.training.jobs import plan as planned
from robustgap.training.settings import DAMAGED


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    return results, make_study(results)


def test_run_measures_every_model_of_a_chunk(study, capsys):
    results, plan = study
    assert command(results, "average_ce") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("average_ce [")]
    assert len(lines) == 3
    assert "left)" in lines[0]
    rows = table(results, "average_ce")
    assert list(rows[0]) == COLUMNS
    grid = [model for model, entry in plan["models"].items() if entry["source"] == "grid"][:2]
    assert [(row["model"], row["variant"]) for row in rows[:4]] == [
        (m, v) for m in grid for v in ("clean", "adversarial")
    ]
    for row in rows[:4]:
        assert (row["n_images"], row["split"], row["seed"], row["reason"]) == ("32", "train", "0", "")
        assert (row["forwards"], row["code_id"]) == ("32", code_id("average_ce"))
    assert float(rows[1]["value"]) > float(rows[0]["value"]) > 0  # the attack raises the loss
    for row in rows[4:]:
        assert (row["model"], row["value"], row["n_images"]) == ("rb-cifar10-Linf-Wong2020Fast", "", "0")
        assert row["reason"]
    assert len(rows) == 6  # nothing of the collapsed run


def test_run_resumes_from_its_cache_until_code_or_images_change(study, capsys, monkeypatch):
    results, _ = study
    assert command(results, "num_params") == 0
    first, cache = table(results, "num_params"), results / "measures" / "num_params" / "cache"
    kept = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(kept) == 2  # what failed is not cached
    next(iter(kept)).unlink()
    capsys.readouterr()
    assert command(results, "num_params") == 0
    assert capsys.readouterr().err.count("(cached") == 1
    again = table(results, "num_params")
    assert [row["value"] for row in again] == [row["value"] for row in first]
    entry = next(iter(kept))
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "inputs": "of other images"}))
    capsys.readouterr()
    assert command(results, "num_params") == 0
    assert capsys.readouterr().err.count("(cached") == 1
    monkeypatch.setattr("robustgap.measures._chunk.code_id", lambda name: "0123456789ab")
    capsys.readouterr()
    assert command(results, "num_params") == 0
    assert capsys.readouterr().err.count("(cached") == 0
    assert {row["code_id"] for row in table(results, "num_params")} == {"0123456789ab"}


def test_run_survives_a_measure_that_fails_and_does_not_cache_it(study, monkeypatch):
    results, _ = study

    def broken(model, batch, context):
        raise RuntimeError("out of luck")

    monkeypatch.setitem(core.MEASURES, "prob_margin", replace(core.load("prob_margin"), function=broken))
    assert command(results, "prob_margin") == 0
    rows = table(results, "prob_margin")
    assert [row["reason"] for row in rows[:4]] == ["RuntimeError: out of luck"] * 4
    assert not (results / "measures" / "prob_margin" / "cache").exists()


def test_several_measures_load_each_model_once_and_give_the_same_tables(study, capsys, monkeypatch):
    results, _ = study
    alone, asked = {}, ["average_ce", "margin_p10", "num_params", "sotl", "l2_dist"]
    for name in asked:
        assert command(results, name) == 0
        alone[name] = values(results, name)
        shutil.rmtree(results / "measures" / name)
    assert all(alone["sotl"][:2]) and all(alone["l2_dist"][:2])  # log and initial weights of the runs were there
    loaded, load_model = [], planned.load_planned_model
    monkeypatch.setattr(planned, "load_planned_model", lambda *a: loaded.append(a[2]) or load_model(*a))
    capsys.readouterr()
    assert command(results, ",".join(asked)) == 0
    assert len(loaded) == 2  # the foreign model is not there
    told = capsys.readouterr().err.splitlines()
    assert [line[:17] for line in told] == [f"5 measures [{place}/3] " for place in (1, 2, 3)]
    assert {name: values(results, name) for name in asked} == alone
    rows = {name: table(results, name) for name in asked}
    assert [row["forwards"] for row in rows["average_ce"]][:2] == ["32", "32"]
    assert [row["forwards"] for row in rows["margin_p10"]][:2] == ["0", "0"]  # the logits were there
    assert all(row["code_id"] == code_id(name) for name in asked for row in rows[name])


def test_run_takes_families_and_all_and_resumes_each_measure_by_itself(study, capsys):
    results, _ = study
    capacity = [name for name in names() if core.load(name).family == "capacity"]
    for name in (*capacity, "sotl"):
        shutil.rmtree(results / "measures" / name, ignore_errors=True)
    assert command(results, "sotl") == 0
    capsys.readouterr()
    assert command(results, "capacity,sotl") == 0
    told = capsys.readouterr().err.splitlines()
    assert "(1 measure cached;" in told[0]
    assert all((results / "measures" / name / "000.csv").exists() for name in capacity)
    assert len(cli.parser().parse_args(["run", "all", "--plan", "p", "--chunk", "0", "--results", "r"]).names) == 3
    assert [one.name for one in core.select(["all"])] == names()


def test_out_is_a_file_for_one_measure_and_a_pattern_for_several(study, capsys, tmp_path):
    results, _ = study
    assert command(results, "num_params", "--out", str(tmp_path / "one.csv")) == 0
    assert command(results, "num_params,sotl", "--out", str(tmp_path / "{name}" / "x.csv")) == 0
    assert (tmp_path / "one.csv").exists() and (tmp_path / "num_params" / "x.csv").exists()
    assert (tmp_path / "sotl" / "x.csv").exists()
    capsys.readouterr()
    assert command(results, "num_params,sotl", "--out", str(tmp_path / "two.csv")) == 1
    assert capsys.readouterr().err.endswith("two.csv for 2 measures, wanted a path with {name} in it\n")
    assert not (tmp_path / "two.csv").exists()


def test_a_target_standard_error_stops_early_and_is_no_other_runs_cache(study, tmp_path, capsys):
    results, _ = study
    assert command(results, "average_ce") == 0
    whole = table(results, "average_ce")
    assert command(results, "average_ce", "--target-se", "1e9", "--out", str(tmp_path / "a" / "000.csv")) == 0
    with (tmp_path / "a" / "000.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["n_images"] for row in rows[:4]] == ["32"] * 4  # fewer images than one look
    capsys.readouterr()
    assert command(results, "average_ce", "--target-se", "1e9") == 1
    assert "error: --out: found nothing, wanted a path" in capsys.readouterr().err
    assert command(results, "average_ce", "--out", str(tmp_path / "a" / "000.csv")) == 0
    assert "(cached" not in capsys.readouterr().err
    assert command(results, "average_ce", "--target-se", "1e9", "--out", str(tmp_path / "a" / "000.csv")) == 0
    assert capsys.readouterr().err.count("(cached") == 2  # each keeps its own
    assert command(results, "average_ce", "--out", str(tmp_path / "a" / "000.csv")) == 0
    capsys.readouterr()
    with (tmp_path / "a" / "000.csv").open() as file:
        assert [row["value"] for row in csv.DictReader(file)] == [row["value"] for row in whole]
    assert command(results, "average_ce", "--target-se", "-1", "--out", str(tmp_path / "b" / "000.csv")) == 1
    assert capsys.readouterr().err == "error: target_se: found -1.0, wanted a number > 0\n"


def test_a_foreign_model_says_why_it_has_neither_log_nor_initial_weights(study, monkeypatch):
    results, plan = study
    foreign = "rb-cifar10-Linf-Wong2020Fast"
    grid = next(model for model, entry in plan["models"].items() if entry["source"] == "grid")
    cache_file, batch, model = frozen_images.cache_file, frozen_images.measure_batch, planned.load_planned_model
    for name, function in (("cache_file", cache_file), ("measure_batch", batch)):
        monkeypatch.setattr(frozen_images, name, lambda p, r, m, f=function: f(p, r, grid if m == foreign else m))
    monkeypatch.setattr(planned, "load_planned_model", lambda p, r, m, d: model(p, r, grid if m == foreign else m, d))
    assert command(results, "sotl,l2_dist") == 0
    reasons = {name: table(results, name)[-1]["reason"] for name in ("sotl", "l2_dist")}
    assert reasons == {
        "sotl": "no training log: the model was not trained here",
        "l2_dist": "no initial weights: the model was not trained here",
    }


def test_a_damaged_log_is_named(study, capsys):
    results, _ = study
    log = next((results / "runs").glob("*/log.csv"))
    content = log.read_text()
    try:
        for broken in (content[: content.rindex("\n", 0, -1) + 1], content[:-10], content.replace("0.", "x", 1)):
            log.write_text(broken)
            shutil.rmtree(results / "measures" / "sotl", ignore_errors=True)
            assert command(results, "sotl") == 1
            told = capsys.readouterr().err
            assert str(log) in told.splitlines()[-1] and "Traceback" not in told
    finally:
        log.write_text(content)


def test_run_says_in_one_line_what_is_wrong(study, capsys, tmp_path):
    results, _ = study
    assert command(results, "average_cee") == 1
    assert "did you mean 'average_ce'" in capsys.readouterr().err
    assert command(results, "average_ce", "--chunk", "007") == 1
    assert capsys.readouterr().err == "error: --chunk: found '007', wanted one of the plan's: 000\n"
    assert command(results, "average_ce", "--plan", str(tmp_path / "none.json")) == 1
    assert "none.json: not found" in capsys.readouterr().err
    weights = next((results / "runs").glob("*/last.safetensors"))
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-100])
        assert command(results, "log_prod_of_fro") == 1
        assert str(weights) in capsys.readouterr().err
    finally:
        weights.write_bytes(content)


def test_a_damaged_file_tells_what_makes_it_again(study, capsys):
    """Kept outcomes: the table of the chunk is marked. Weights, log, record: also the manifest of the batch goes."""
    results, plan = study
    model, entry = next(iter(plan["models"].items()))
    folder, outcomes, manifest = results / "runs" / entry["run"], results / "outcomes", results / "runs" / "000.json"
    (kept,) = (outcomes / "models").glob(f"{model}.*")
    for path, done in (
        (kept, "made"),
        (folder / "last.safetensors", "trained"),
        (folder / "log.csv", "trained"),
        (folder / "run.json", "trained"),
    ):
        whole = path.read_bytes()
        manifest.write_text("{}")
        os.utime(outcomes / "000.parquet")
        shutil.rmtree(results / "measures" / "brier_score", ignore_errors=True)
        path.write_bytes(whole[: len(whole) // 2])
        try:
            assert command(results, "brier_score") == 1
        finally:
            path.write_bytes(whole)
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"error: {path}: ") and said.endswith(f": run again, and it is {done} anew")
        assert (outcomes / "000.parquet").stat().st_mtime == DAMAGED
        assert manifest.exists() == (done == "made")


def test_the_kept_outcomes_of_a_foreign_model_are_made_again_too(study, capsys, monkeypatch):
    """They are ours, though the model is not: a value missing for that reason would be missing for ever."""
    results, _ = study
    foreign = "rb-cifar10-Linf-Wong2020Fast"
    kept = results / "outcomes" / "models" / "foreign.safetensors"
    kept.write_bytes(b"half")
    cache_file = frozen_images.cache_file
    monkeypatch.setattr(frozen_images, "cache_file", lambda p, r, m: kept if m == foreign else cache_file(p, r, m))
    assert command(results, "brier_score") == 1
    assert f"error: {kept}: not a complete safetensors file" in capsys.readouterr().err
    kept.unlink()
    assert command(results, "brier_score") == 0  # a model that could not be judged has a reason, and stops nothing
    assert "wanted the outcomes of" in table(results, "brier_score")[-1]["reason"]


@pytest.mark.parametrize("damage", [b"\xff", b"[]", b"{}", b'{"rows": '])
def test_a_damaged_cache_of_a_measure_is_named_and_computed_again(damage, study, capsys):
    results, _ = study
    assert command(results, "num_params") == 0
    before = values(results, "num_params")
    cache = next((results / "measures" / "num_params" / "cache").iterdir())
    cache.write_bytes(damage)
    capsys.readouterr()
    assert command(results, "num_params") == 0
    assert f"{cache}: " in capsys.readouterr().err and values(results, "num_params") == before
