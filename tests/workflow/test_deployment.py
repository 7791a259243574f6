"""The workflow in other people's hands: deployed by snakedeploy, and as a module of somebody's own Snakefile."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from deployed import ADDRESS, OLD, OWNER, TAG, Place, install, publish
from studies import study
from trees import ROOT, Tree

from robustgap.workflow import deployment, jobs
from robustgap.workflow.grid import open_plan
from robustgap.workflow.jobs import Jobs, shell_prefix
from robustgap.workflow.study import resolve
from robustgap.workflow.study_faults import schema

TINY = ROOT / "workflow" / "config" / "digits-tiny.yaml"
FROM_GIT = f'github("{OWNER}", path="workflow/Snakefile", tag="{{tag}}")'
AFTER = Counter(["data", "catalogue", "ledger", "analysis", "tables", "figures", "report"])
# Somebody's own Snakefile: a study of another name, one seed more, a measure of a rule of theirs, rules by other names.
OWN = """
import yaml

STUDY = yaml.safe_load(open("tiny.yaml"))
STUDY |= {{"study": "mine", "extra_rules": ["robust_epochs.smk"], "measures": ["robust_epochs", "path_norm"]}}
STUDY["axes"] = {{"defense": ["Standard", "AT"]}}
STUDY["seeds"] = [0, 1]


module robustgap:
    snakefile:
        {snakefile}
    config:
        STUDY
    {more}


use rule * from robustgap as robustgap_*


rule own:
    input:
        "results/mine/report.html",
    output:
        "own.txt",
    shell:
        "env > {{output}}; set -o | grep pipefail >> {{output}}"


rule default:
    input:
        "own.txt",
    default_target: True
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("public") / "robustgap")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, published: Path, site: Path) -> Place:
    place = Place(tmp_path_factory.mktemp("deployed") / "empty", published, site)
    told = place.command("snakedeploy", "deploy-workflow", ADDRESS, ".", "--tag", TAG)
    assert told.code == 0, told.text
    return place


def own(place: Place, snakefile: str, more: str = "") -> Place:
    (place.path / "Snakefile").write_text(OWN.format(snakefile=snakefile, more=more))
    shutil.copy(TINY, place.path / "tiny.yaml")
    shutil.copy(ROOT / "docs" / "robust_epochs.smk", place.path)
    return place


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.mark.study
def test_snakedeploy_brings_a_study_to_edit_and_every_profile(deployed: Place):
    files = [deployed.path / "config" / "config.yaml", *(deployed.path / "profiles").rglob("*")]
    assert not any(file.is_symlink() for file in files)
    assert files[0].read_text() == (ROOT / "workflow" / "config" / "digits.yaml").read_text()
    assert (deployed.path / "config" / "README.md").is_file()
    assert os.access(deployed.path / "profiles" / "cluster" / "submit", os.X_OK)
    planned = deployed.plan("--workflow-profile", "profiles/local")
    assert planned.code == 0 and planned.jobs["compute_measures"] == 4, planned.text
    assert not (deployed.path / "results").exists()
    figures = deployed.plan("figures")  # of the ledger that ships
    assert (figures.code, figures.jobs) == (0, Counter(["figures"])), figures.text


@pytest.mark.study
def test_another_study_replaces_the_deployed_one_and_is_not_mixed_into_it(deployed: Place):
    mixed = deployed.plan("--configfile", str(TINY))
    assert mixed.code != 0 and "Traceback" not in mixed.text
    assert last_line(mixed.text).startswith("config/config.yaml: found a second study, ")
    assert "wanted --replace-workflow-config beside --configfile" in last_line(mixed.text)
    planned = deployed.plan("--replace-workflow-config", "--configfile", str(TINY))
    assert planned.code == 0 and planned.jobs["train"] == 2, planned.text


@pytest.mark.study
def test_a_deployed_study_runs_to_its_report(deployed: Place, tmp_path: Path):
    """On installed code, beside files of the user's that are called like packages."""
    place = Place(tmp_path / "tiny", deployed.home.parent / "robustgap", deployed.site)
    shutil.copytree(deployed.path, place.path, dirs_exist_ok=True)
    config = place.path / "config" / "config.yaml"
    config.write_text(TINY.read_text().replace("batch_size:", "batch_sise:"))
    wrong = place.plan()
    assert last_line(wrong.text) == "config/config.yaml: axes.batch_sise: unknown key, did you mean 'batch_size'?"
    config.write_text(TINY.read_text())
    for name in ("torch", "training", "analysis"):
        (place.path / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    ran = place.run("--workflow-profile", "profiles/local")
    assert ran.code == 0, ran.text
    n = 2
    measures = {f"compute_{name}": n for name in ("average_ce", "path_norm", "prob_margin")}
    assert ran.jobs == AFTER + Counter({"train": n, "outcomes": n, "outcome_fgsm": n, "all": 1, **measures})
    assert (place.path / "results" / "digits-tiny" / "report.html").stat().st_size > 1000
    assert "Nothing to be done" in place.plan().text
    report = place.command("snakemake", "--report", "report.zip")
    assert report.code == 0 and (place.path / "report.zip").stat().st_size > 10_000, report.text


@pytest.mark.study
def test_a_module_of_a_local_path_runs_to_its_report_with_a_measure_of_ones_own(tmp_path: Path, published: Path):
    """On the code of that path, which is not installed. One's own rules keep their variables and the strict mode."""
    tree = Tree.of_project(tmp_path / "project")
    tree.edit("robustgap/__init__.py", '__version__ = "', '__version__ = "9.')
    place = own(Place(tmp_path / "own", published), f'"{tree.path}/workflow/Snakefile"')
    ran = place.run()
    assert ran.code == 0, ran.text
    ledger = place.path / "results" / "mine" / "ledger"
    assert set(pd.read_csv(ledger / "measures.csv")["measure"]) == {"robust_epochs", "path_norm"}
    assert pd.read_csv(ledger / "runs.csv")["seed"].nunique() == 2
    assert ran.jobs["robustgap_compute_robust_epochs"] == ran.jobs["robustgap_outcomes"] > 0
    told = (place.path / "own.txt").read_text()
    assert "PYTHONSAFEPATH" not in told and str(tree.path) not in told
    assert told.split()[-2:] == ["pipefail", "on"]
    assert "Nothing to be done" in place.plan().text


@pytest.mark.study
@pytest.mark.parametrize("snakefile", ["workflow/Snakefile", "Snakefile"])
def test_a_module_from_git_plans(tmp_path: Path, published: Path, site: Path, snakefile: str):
    place = own(Place(tmp_path / "own", published, site), f'github("{OWNER}", path="{snakefile}", tag="{TAG}")')
    planned = place.plan()
    assert planned.code == 0, planned.text
    assert planned.jobs["own"] == 1 and planned.jobs["robustgap_compute_robust_epochs"] > 0
    assert not (place.path / "results").exists()


@pytest.mark.study
@pytest.mark.parametrize(
    "more, found",
    [
        ("prefix: 'elsewhere'", "elsewhere/results/mine"),
        ("replace_prefix: {'results/': 'elsewhere/'}", "elsewhere/mine"),
        ("pathvars: results='elsewhere'", "elsewhere"),
    ],
)
def test_a_module_statement_cannot_move_the_results(tmp_path: Path, published: Path, site: Path, more: str, found: str):
    place = own(Place(tmp_path / "own", published, site), f'"{ROOT}/workflow/Snakefile"', more)
    refused = place.run()
    assert refused.code != 0 and "Traceback" not in refused.text
    assert last_line(refused.text).startswith(f"results: found {found}, wanted results/mine: ")
    assert not (place.path / "results").exists() and not (place.path / "elsewhere").exists()


@pytest.mark.study
def test_rules_of_another_version_than_the_installed_one_are_refused(tmp_path: Path, published: Path, site: Path):
    place = own(Place(tmp_path / "own", published, site), FROM_GIT.format(tag=OLD))
    refused = place.plan()
    assert refused.code != 0 and "Traceback" not in refused.text
    line = last_line(refused.text)
    assert line.startswith(f"robustgap: found version {TAG[1:]} installed, but rules of version {OLD[1:]} (")
    assert OWNER in line and OLD in line


@pytest.mark.study
def test_a_workflow_without_the_package_says_so(tmp_path: Path, published: Path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\n\n\nclass Hidden:\n    def find_spec(self, name, *rest):\n        if name == 'robustgap':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n\n\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    place = own(Place(tmp_path / "own", published, hidden), FROM_GIT.format(tag=TAG))
    refused = place.plan()
    assert refused.code != 0 and "Traceback" not in refused.text
    assert last_line(refused.text).startswith("robustgap: found no such package in the Python of Snakemake, wanted")


def test_versions_are_compared(tmp_path: Path):
    file = ROOT / "robustgap" / "__init__.py"
    deployment.version_or_exit(file)
    (tmp_path / "other.py").write_text(file.read_text().replace('__version__ = "', '__version__ = "9.'))
    with pytest.raises(SystemExit, match=r"but rules of version 9\.[0-9.]+ \(v9\), wanted one"):
        deployment.version_or_exit(tmp_path / "other.py", "v9")


def test_a_study_comes_from_the_files_that_hold_one(tmp_path: Path):
    ours, other, part, foreign = (tmp_path / name for name in ("ours", "other", "part", "foreign"))
    ours.write_text(yaml.safe_dump(study()))
    other.write_text(yaml.safe_dump(study(study="other")))
    part.write_text("seeds: [7]\n")
    foreign.write_text("samples: a.tsv\nstudy: a text\n")

    def files(loaded: list, given: list, **options: bool) -> list:
        return deployment.study_files_or_exit({"study": "x"}, loaded, given, **{"main": False, **options})

    assert files([other, ours], [other], main=True) == [other, ours]
    assert files([ours], []) == [ours]
    assert files([foreign], []) == files([foreign, part], [part]) == []
    assert files([part, ours], [part]) == [ours, part]
    assert files([other, ours], [other], replaced=True) == [other]
    with pytest.raises(SystemExit, match=r"ours: found a second study, .*other, which Snakemake merges"):
        files([other, ours], [other])
    with pytest.raises(SystemExit, match=r"^config: found nothing, wanted a study"):
        deployment.study_files_or_exit({}, [], [], main=False)


def test_a_rule_file_in_the_working_directory_comes_before_one_of_the_project(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {"measures": ["mine"], "extra_rules": ["docs/robust_epochs.smk"]}
    with pytest.raises(ValueError, match=r"measures\[0\]: nothing makes 'mine'"):
        resolve(study(**asked), "f")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "robust_epochs.smk").write_text("rule compute_mine:\n    output: 'x'\n")
    found = open_plan(study(**asked), "f")
    assert Jobs(found).extra_rules == [str(tmp_path / "docs" / "robust_epochs.smk")]


def test_a_module_writes_its_plan_unless_a_snakemake_has_locked_the_results(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Jobs(open_plan(study(), "f")).start_as_module()
    plan = tmp_path / "results" / "small" / "plan.json"
    first = plan.read_text()
    (tmp_path / ".snakemake" / "locks").mkdir(parents=True)
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    lock.write_text("results/small/ledger/runs.csv\n")
    other = Jobs(open_plan(study(seeds=[5]), "f"))
    other.start_as_module()
    assert plan.read_text() == first
    lock.unlink()
    other.start_as_module()
    assert plan.read_text() != first


def test_a_prefix_keeps_what_stood_before_it_and_exports_nothing():
    strict, function = "set -euo pipefail; ", shell_prefix()
    assert shell_prefix(before=strict) == strict + function
    assert shell_prefix(before=strict + function) == strict + function  # of a second study in one Snakefile
    with pytest.raises(SystemExit, match=r"^reproducible: found true and false"):
        shell_prefix(reproducible=True, before=strict + function)
    inside = "robustgap_python -c 'import os; print(os.environ.get(\"PYTHONSAFEPATH\"))'"
    script = f'{function}{inside}; echo "$PYTHONSAFEPATH"'
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    ran = subprocess.run(["bash", "-c", script], env=bare, capture_output=True, text=True, check=True)
    assert ran.stdout == "1\n\n"


def test_environments_of_snakemake_find_installed_code_and_nothing_beside_it(tmp_path: Path, site: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "ROOT", site / "robustgap")
    prefix = shell_prefix(["conda"])
    assert f"PYTHONPATH={tmp_path}/.snakemake/robustgap" in prefix and '"$PATH"' not in prefix
    assert "PYTHONPATH" not in shell_prefix()
    jobs.link_code()
    jobs.link_code()
    assert [file.name for file in (tmp_path / ".snakemake" / "robustgap").iterdir()] == ["robustgap"]
    python = tmp_path / "bin" / "python"  # of an environment that has none of our packages
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    code = "import robustgap.training.settings as found; print(found.__file__)"
    script = f"{prefix}robustgap_python -c '{code}'"
    bare = {"PATH": f"{python.parent}:/usr/bin:/bin"}
    ran = subprocess.run(["bash", "-c", script], env=bare, capture_output=True, text=True, cwd="/")
    assert ran.stdout.startswith(f"{tmp_path}/.snakemake/robustgap/robustgap/training/"), ran.stderr


def test_scripts_of_a_profile_that_is_named_by_the_link_are_found():
    settings = SimpleNamespace(submit_cmd="profiles/cluster/submit 1", status_cmd="profiles/cluster/status")
    jobs.find_scripts(settings)
    assert settings.submit_cmd == f"{ROOT}/profiles/cluster/submit 1" and Path(settings.status_cmd).is_file()
    profile = yaml.safe_load((ROOT / "profiles" / "cluster" / "config.yaml").read_text())
    for name in ("submit", "status", "cancel"):
        assert (ROOT / profile[f"cluster-generic-{name}-cmd"].split()[0]).is_file()


def test_the_catalogue_finds_what_it_wants():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"} and usage["report"] is True
    assert set(usage["software-stack-deployment"]) == {"conda", "apptainer", "apptainer+conda"}
    assert {"snakemake", "workflow"} <= set((ROOT / "README.md").read_text().lower().split())


def test_the_readme_of_the_configuration_names_every_key():
    text = (ROOT / "config" / "README.md").read_text()
    assert not [key for key in schema()["properties"] if f"`{key}`" not in text]
    assert (ROOT / "config" / "config.yaml").read_text() == (ROOT / "workflow/config/digits.yaml").read_text()


def test_a_container_has_the_pins_of_the_project_and_none_of_its_own():
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    (installed,) = (line for line in text.splitlines() if line.startswith("RUN pip install "))
    assert installed.endswith("'/opt/robustgap[train,workflow]'")
    assert "--constraint /opt/robustgap/constraints.txt" in installed
    assert "==" not in text
    (python,) = re.findall(r"^FROM python:(\d+\.\d+)-slim$", text, re.MULTILINE)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == f">={python}"


def test_the_readme_of_deployment_names_the_version_that_is():
    for file in ("README.md", "docs/deployment.md"):
        assert set(re.findall(r"\bv(\d+\.\d+\.\d+)", (ROOT / file).read_text())) == {TAG[1:]}, file
