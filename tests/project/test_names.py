"""One name: what is installed, imported and typed is robustgap, whatever lies in the folder where it is used."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from trees import ROOT

from robustgap import __version__
from robustgap.__main__ import VERBS, completion, main
from robustgap.workflow import run_study
from robustgap.workflow.study import study_file

PACKAGES = ("training", "measures", "analysis", "workflow")
MODULES = [
    ".".join(("robustgap", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
]


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Python in a folder, which comes first among the places where it looks for modules; the project after it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def shadowed(tmp_path: Path) -> Path:
    """A folder of somebody who has modules of the names of ours."""
    for package in PACKAGES:
        (tmp_path / f"{package}.py").write_text("OWN = True\n")
    return tmp_path


def test_no_file_is_imported_twice(tmp_path: Path):
    code = (
        "import sys, json, os, importlib; [importlib.import_module(name) for name in json.loads(sys.argv[1])];"
        "files = [os.path.realpath(m.__file__) for m in list(sys.modules.values()) if getattr(m, '__file__', None)];"
        "ours = [file for file in files if file.startswith(sys.argv[2]) and '.venv' not in file];"
        "assert len(ours) > 200 and len(set(ours)) == len(ours), sorted(f for f in set(ours) if ours.count(f) > 1)"
    )
    ran = python(tmp_path, "-c", code, json.dumps([m for m in MODULES if "__main__" not in m]), f"{ROOT}{os.sep}")
    assert ran.returncode == 0, ran.stderr


def test_old_names_are_refused():
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try: importlib.import_module(name); print(name, 'was imported')\n"
        "    except ImportError as error: assert f'wanted robustgap.{name}' in str(error), error\n"
    )
    ran = python(ROOT, "-c", code, *PACKAGES)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_modules_of_the_same_names_in_the_working_directory_do_no_harm(shadowed: Path):
    code = (
        "import robustgap, training, measures, analysis, workflow, torch;"
        "assert all(own.OWN for own in (training, measures, analysis, workflow));"
        "model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval();"
        "table = robustgap.evaluate(model, torch.rand(4, 1, 2, 2), torch.zeros(4).long(), ['num_params'], eps=0.1);"
        "print(robustgap.__version__, table.value[0])"
    )
    ran = python(shadowed, "-c", code)
    assert ran.stdout == f"{__version__} 10.0\n", ran.stderr
    rows = "".join(f"{i},{i % 2},{(i * i) % 7},{(5 * i) % 9}\n" for i in range(8))
    (shadowed / "models.csv").write_text("a,b,gap,x\n" + rows)
    for command in (["-m", "robustgap.analysis"], ["-m", "robustgap"]):
        given = ["correlate", "models.csv", "--axes", "a,b", "--outcome", "gap", "--measures", "x", "--draws", "100"]
        ran = python(shadowed, *command, *given, "--out", "out")
        assert ran.returncode == 0 and "8 models, 1 measure" in ran.stdout, ran.stderr


def test_the_command_says_its_version_and_what_it_can(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"robustgap {__version__}\n"
    assert main([]) == 0
    told = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +{re.escape(verb.help)}$", told, re.MULTILINE) for name, verb in VERBS.items())
    assert main(["statistic"]) == 2
    assert "did you mean 'statistics'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", VERBS)
def test_every_command_has_its_help_under_its_own_name(name: str, capsys: pytest.CaptureFixture):
    try:
        assert main([name, "--help"]) == 0
    except SystemExit as ended:
        assert ended.code == 0
    assert capsys.readouterr().out.startswith("usage: robustgap ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_can_complete_commands_and_their_options(shell: str):
    script = completion(shell)
    assert "statistics" in script and "seed-column" in script and "print-completion" in script
    assert script.count("rates") and "card" in script


def test_a_study_is_run_by_its_name_or_its_file(tmp_path: Path, capsys: pytest.CaptureFixture):
    file = ROOT / "workflow" / "config" / "digits-tiny.yaml"
    assert study_file("digits-tiny") == study_file(str(file)) == file
    line = run_study.command(file, [])
    assert line[line.index("--cores") + 1] == "all" and "--workflow-profile" in line
    line = run_study.command(file, ["--profile", "mine"])
    assert "--cores" not in line and "--workflow-profile" not in line
    for command in ("study", "plan", "unlock"):
        assert main([command, "digit"]) == 1
        told = capsys.readouterr().err
        assert "digit: found no study of that name or path, wanted a file or one of cifar10, " in told
        assert told.endswith(", did you mean 'digits'?\n")


def test_every_package_and_every_file_beside_code_is_installed():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {name for package in PACKAGES for file in (ROOT / package).rglob("__init__.py")
             for name in [".".join(("robustgap", *file.relative_to(ROOT).parent.parts))]}  # fmt: skip
    assert set(tool["packages"]) == found | {"robustgap"} and len(set(tool["packages"])) == len(tool["packages"])
    for package in PACKAGES:
        there = {f for f in (ROOT / package).rglob("*") if f.is_file() and "__pycache__" not in f.parts}
        code = {file for file in there if file.suffix == ".py"} | {ROOT / "workflow" / "Snakefile"}  # of checkouts
        data = {
            file
            for name, patterns in tool["package-data"].items()
            for pattern in patterns
            for file in (ROOT / Path(*name.split(".")[1:])).glob(pattern)
        }
        assert there - code <= data, sorted(there - code - data)
        assert (ROOT / "robustgap" / package).resolve() == ROOT / package
