"""The command line of measures: the list, the card, a new measure."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robustgap.measures import __main__ as cli
from robustgap.measures._code import ROOT, names
from robustgap.measures.core import load


@pytest.fixture
def project(tmp_path):
    """A copy of the two packages, in which files may be edited."""
    for package in ("measures", "training"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "robustgap").mkdir()
    shutil.copy(ROOT / "robustgap" / "__init__.py", tmp_path / "robustgap")
    (tmp_path / "Snakefile").touch()  # by which a checkout is known
    return tmp_path


def python(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(project)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def test_list_prints_one_line_each_and_the_catalogue_as_json(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert cli.main(["list", "--json"]) == 0
    catalogue = json.loads(capsys.readouterr().out)
    assert list(catalogue) == names()
    keys = {"family", "needs", "variants", "expects", "paper", "formula", "summary", "invariances"}
    keys |= {"defaults", "proof"}
    assert all(set(card) == keys for card in catalogue.values())
    assert catalogue["boundary_thickness"]["expects"] == {"clean": -1, "adversarial": None}
    assert catalogue["num_params"]["variants"] == ["none"]


def test_new_writes_a_measure_that_works_at_once(project):
    found = python(project, "-m", "robustgap.measures", "new", "my_measure")
    assert found.returncode == 0, found.stderr
    assert "my_measure" in names(project)
    script = (
        "import torch; from robustgap.measures import evaluate; torch.manual_seed(0);"
        "model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4)).eval(); x = torch.rand(8, 1, 4, 4);"
        "t = evaluate(model, x, torch.zeros(8, dtype=torch.int64), ['my_measure'], eps=0.1);"
        "assert t.variant.tolist() == ['clean', 'adversarial'] and (t.value > 0.25).all() and (t.reason == '').all();"
        "assert abs(t.value[0] - float(model(x).softmax(1).amax(1).mean())) < 1e-6; print(t.to_string())"
    )
    evaluated = python(project, "-c", script)
    assert evaluated.returncode == 0, evaluated.stderr
    again = python(project, "-m", "robustgap.measures", "new", "my_measure")
    assert again.returncode == 1
    assert again.stderr.startswith("error: ")
    assert "Traceback" not in again.stderr


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def bad(:\n", "bad.py, line 1: found invalid syntax, wanted Python\n"),
        ("x = 1\n", "found no measure of the file's name, wanted a function bad under @measure(...)\n"),
    ],
)
def test_a_measure_that_is_written_wrongly_is_one_line(project, code, told):
    (project / "measures" / "bad.py").write_text(code)
    found = python(project, "-m", "robustgap.measures", "card", "bad")
    assert found.returncode == 1 and found.stderr.startswith("error: ") and found.stderr.endswith(told)
    assert found.stderr.count("\n") == 1 and "measures/bad.py" in found.stderr


@pytest.mark.parametrize("name", ["core", "Bad", "2nd", "_hidden", "a-b", "class", "all", "average_ce", ""])
def test_new_refuses_names_that_cannot_be_measures(project, name):
    before = sorted(project.rglob("*"))
    with pytest.raises(ValueError, match="wanted"):
        cli.new(name, project)
    assert sorted(project.rglob("*")) == before


def test_card_says_everything_about_a_measure(capsys):
    for name in names():
        assert cli.main(["card", name]) == 0
        told = capsys.readouterr().out
        entry = load(name).card()
        assert told.startswith(f"{name}\n{'=' * len(name)}\nformula: {entry['formula']}\n")
        for part in (entry["family"], entry["paper"], *entry["needs"], *entry["invariances"], *entry["variants"]):
            assert part in told
        assert told.rstrip().endswith((load(name).function.__doc__ or "").rstrip().splitlines()[-1].strip())
    assert cli.main(["card", "average_flat"]) == 0
    told = capsys.readouterr().out
    assert "defaults: pairs 5, xi 0.5\n" in told
    assert "test_average_flat_of_a_quadratic_loss" in told
    assert cli.main(["card", "boundary_thickness"]) == 0
    assert "clean falls with it, adversarial no claim\n" in capsys.readouterr().out
    assert cli.main(["card", "average_flats"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: measure: found 'average_flats', wanted one of ") and told.count("\n") == 1
    assert told.endswith("; did you mean 'average_flat'?\n")


@pytest.mark.parametrize("content", ["{}", "[]"])
def test_run_with_a_file_that_is_no_plan_is_one_line(content, tmp_path, capsys):
    (tmp_path / "plan.json").write_text(content)
    options = ["--plan", str(tmp_path / "plan.json"), "--chunk", "000", "--results", str(tmp_path)]
    assert cli.main(["run", "margin", *options]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/plan.json: found no study, wanted a plan (study, runs, models, chunks)\n"
    )
