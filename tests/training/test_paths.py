"""Paths as people write them: `~` and variables in study files, `~` on command lines, scripts from the Snakefile."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from studies import study
from trees import ROOT

import robustgap.analysis.__main__ as analysis_cli
from robustgap.training.paths import expanded_address
from robustgap.workflow import grid
from robustgap.workflow.jobs import find_scripts
from robustgap.workflow.study import resolve
from robustgap.workflow.study_faults import StudyError

FILE = {"source": "file", "name": "mine", "architecture": "mlp"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    """A home and a variable of their own, in a working directory where nothing lies."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.delenv("NOWHERE", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_every_path_of_a_study_is_written_out(home: Path):
    scratch = home.parent / "scratch"
    scratch.mkdir()
    (scratch / "more.smk").write_text("rule compute_by_hand:\n    output: 'x'\n")
    found = resolve(
        study(
            data_dir="~/data",
            model_dir="${SCRATCH}/models",
            models=[FILE | {"file": "$SCRATCH/mine.pt"}],
            extra_rules=["$SCRATCH/more.smk"],
            measures=["by_hand"],
            mirrors=["file://~/copies", "$SCRATCH", "https://x.org/~me/$1"],
        ),
        "f",
    )
    assert (found["data_dir"], found["model_dir"]) == (f"{home}/data", f"{scratch}/models")
    assert found["models"][0]["file"] == f"{scratch}/mine.pt" and found["extra_rules"] == [f"{scratch}/more.smk"]
    assert found["mirrors"] == [f"file://{home}/copies", f"file://{scratch}", "https://x.org/~me/$1"]
    assert resolve(found, "f") == found
    assert resolve(study(data_dir="$HOME/data"), "f")["data_dir"] == found["data_dir"]


def test_what_cannot_be_written_out_is_one_line_each():
    config = study(data_dir="$NOWHERE/data", models=[FILE | {"file": "~nobody-of-this-name/x.pt"}])
    with pytest.raises(StudyError) as caught:
        resolve(config, "f.yaml")
    assert str(caught.value).splitlines() == [
        "f.yaml: data_dir: found '$NOWHERE/data', wanted a path: the variable NOWHERE is not set",
        "f.yaml: models[0].file: found '~nobody-of-this-name/x.pt', wanted a path: no home of ~nobody-of-this-name is"
        " known",
    ]


def test_an_address_of_another_machine_stays_as_it_is():
    assert expanded_address("http://host/~user/$x") == "http://host/~user/$x"


def test_a_tilde_on_a_command_line_makes_no_folder_of_that_name(home: Path, capsys):
    assert grid.main([str(ROOT / "workflow/config/digits-tiny.yaml"), "--out=~/plans/plan.json"]) == 0
    assert (home / "plans" / "plan.json").is_file()
    assert analysis_cli.main(["ledger", "--results=~/gone", "--out=~/x"]) == 1
    assert f"{home}/gone/plan.json: no such file" in capsys.readouterr().err
    assert analysis_cli.main(["ledger", "--results=~nobody-of-this-name/x", "--out=~/x"]) == 1
    assert "no home of ~nobody-of-this-name is known" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        grid.main(["x.yaml", "--out=~nobody-of-this-name/x"])
    assert "no home of ~nobody-of-this-name is known" in capsys.readouterr().err
    assert list(Path.cwd().iterdir()) == []


def test_scripts_of_a_profile_are_named_from_the_snakefile():
    """Those that lie elsewhere, and programs, stay as they are."""
    profile = "workflow/profiles/cluster"
    settings = SimpleNamespace(submit_cmd=f"{profile}/submit {{rule}} 1", status_cmd="qstat -x", cancel_cmd="cancel")
    settings.cancel_cmd = f"{profile}/cancel"
    find_scripts(settings)
    assert settings.submit_cmd == f"{ROOT}/{profile}/submit {{rule}} 1"
    assert settings.status_cmd == "qstat -x" and settings.cancel_cmd == f"{ROOT}/{profile}/cancel"
    find_scripts(None)  # of an executor without settings
