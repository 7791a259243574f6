"""The check of a recipe trains every run in every arithmetic, once, and says which of them broke down."""

import csv

import pytest
import yaml
from small_runs import train
from studies import study

from benchmarks import digits_recipe
from benchmarks.digits_recipe import ARITHMETIC, by_configuration, report
from robustgap.training.data.datasets import load
from robustgap.training.settings import REPRODUCIBLE
from robustgap.workflow.grid import grid_cells
from robustgap.workflow.study import resolve

SETTINGS = {"architecture": "mlp", "width": 4, "epochs": 2, "augmentation": "none", "inner_steps": 1}


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(study(settings=SETTINGS, axes={"defense": ["Standard", "AT"]})))
    return file


def test_every_run_is_trained_once_in_the_arithmetic_it_is_listed_under(config, tmp_path, capsys, monkeypatch):
    runs, started = tmp_path / "runs.csv", []

    def here(given, kind):  # in this process, not in others
        started.append(kind)
        given.worker = kind
        digits_recipe.work(given, grid_cells(resolve(digits_recipe.read_study(given.config), given.config))[0])

    monkeypatch.setattr(digits_recipe, "started", here)
    given = ["--config", str(config), "--runs", str(runs), "--seeds", "2", "--out", str(tmp_path / "out.md")]
    assert digits_recipe.main(given) == 0
    first = runs.read_text()
    rows = list(csv.DictReader(first.splitlines()))
    assert started == list(ARITHMETIC) and len({(row["run"], row["arithmetic"]) for row in rows}) == len(rows) == 12
    assert all(bool(row["gap"]) == (row["seed"] == "0") for row in rows)
    capsys.readouterr()
    assert digits_recipe.main(given) == 0
    assert runs.read_text() == first, "nothing is done again"
    assert capsys.readouterr().out == (tmp_path / "out.md").read_text()


def test_a_finished_training_of_a_study_gives_the_row_that_training_it_again_gives(tmp_path):
    folder, record = train(tmp_path / "runs")
    splits = load("digits")
    (row,) = digits_recipe.of_study(tmp_path, splits)
    again = digits_recipe.train(record["settings"], splits, with_gap=True)
    assert {key: value for key, value in again.items() if key != "seconds"} == pytest.approx(
        {key: row[key] for key in again if key != "seconds"}
    )
    assert row["run"] == folder.name and row["arithmetic"] == "native"


def test_workers_are_started_in_the_arithmetic(monkeypatch):
    seen = []

    class Worker:
        def __init__(self, command, cwd, env):
            seen.append({name: env.get(name) for name in REPRODUCIBLE})

        def wait(self):
            return 0

    monkeypatch.setattr(digits_recipe.subprocess, "Popen", Worker)
    monkeypatch.setenv("MKL_CBWR", "AVX512")
    given = digits_recipe.argparse.Namespace(config="x", runs="y", seeds=1, processes=2)
    for kind in ARITHMETIC:
        digits_recipe.started(given, kind)
    assert seen[::2] == seen[1::2] == [dict.fromkeys(REPRODUCIBLE) | told for told in ARITHMETIC.values()]


def test_the_report_counts_and_names_what_broke_down():
    cells = grid_cells(resolve(study(settings=SETTINGS, axes={"defense": ["Standard", "AT"]}), "x"))[0]
    runs = [digits_recipe.run_id({**cell, "seed": seed}) for cell in cells.values() for seed in (0, 1)]
    base = {"arithmetic": "native", "clean": "0.9", "highest": "1", "loss": "0.1", "flag": "", "seconds": "2"}
    rows = [{**base, "run": run, "seed": place % 2, "gap": "", "se": ""} for place, run in enumerate(runs)]
    rows[3] |= {"flag": "diverged", "clean": "0.3", "loss": "2.3"}
    rows[2] |= {"gap": "9", "se": "2"}
    rows.append({**rows[0], "run": "another"})
    assert sum(len(part) for kinds in by_configuration(rows, cells).values() for part in kinds.values()) == 4
    told = report(rows, cells, ["defense"]).splitlines()
    assert "| seeds |  | 0, 1 |  |" in told
    assert "| diverged | 0 | 1 | 0 |" in told and "| lowest clean training accuracy |  | 0.300 |  |" in told
    assert "| AT |  |  | none | 0.300 | 2.300 | diverged (seed 1) |  |  | none | 9 | 2 |" in told
    assert "- native: 1 models; minimum, quartiles and maximum 4.5, 4.5, 4.5, 4.5, 4.5; 1 above 4, 1 above 2" in told
