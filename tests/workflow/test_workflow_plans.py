"""Every study, profile and linter, without running a job."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from trees import ROOT, snakemake

from robustgap.workflow.estimate.hours import job_counts
from robustgap.workflow.grid import open_plan
from robustgap.workflow.study import read_study

CONFIGS = sorted(file.stem for file in (ROOT / "workflow" / "config").glob("*.yaml") if file.stem != "schema")
PROFILES = sorted(folder.name for folder in (ROOT / "workflow" / "profiles").iterdir())
BIN = Path(sys.executable).parent


@pytest.mark.parametrize("name", CONFIGS)
def test_every_study_plans_the_jobs_that_grid_announces(name: str, tmp_path: Path):
    file = ROOT / "workflow" / "config" / f"{name}.yaml"
    ran = snakemake(tmp_path, "--configfile", str(file), "--dry-run", "--quiet", "rules")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = [line.split() for line in ran.stdout.splitlines()]
    jobs = Counter({row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()})
    announced = job_counts(open_plan(read_study(file), name))
    measures = sum(count for rule, count in jobs.items() if rule.startswith("compute_"))
    jobs["outcomes"] += sum(count for rule, count in jobs.items() if rule.startswith("outcome_"))
    assert measures == announced.pop("measures")
    assert {rule: count for rule, count in announced.items() if count} == {
        rule: jobs[rule] for rule in announced if jobs[rule]
    }
    assert jobs["total"] == measures + sum(announced.values()) + 1  # `all`
    assert not (tmp_path / "results").exists()


def test_the_default_study_is_digits_and_is_not_mixed_into_another(tmp_path: Path):
    text = snakemake(tmp_path, "--dry-run", "--quiet", "rules").stdout
    assert "compute_measures" in text
    other = ("--configfile", str(ROOT / "workflow/config/digits-tiny.yaml"))
    assert "compute_measures" not in snakemake(tmp_path, *other, "--dry-run", "--quiet", "rules").stdout


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_plans(profile: str, tmp_path: Path):
    study = ("--configfile", str(ROOT / "workflow/config/digits-tiny.yaml"))
    folder = str(ROOT / "workflow" / "profiles" / profile)
    ran = snakemake(tmp_path, *study, "--profile", folder, "--dry-run", "--quiet", "rules")
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("profile", ["slurm", "cluster"])
@pytest.mark.parametrize("processes", [1, 3])
def test_a_training_asks_for_memory_for_each_of_its_processes(profile: str, processes: int, tmp_path: Path):
    text = (ROOT / "workflow/config/digits-tiny.yaml").read_text() + f"train_processes: {processes}\n"
    (tmp_path / "study.yaml").write_text(text)
    given = ("--configfile", str(tmp_path / "study.yaml"), "--profile", str(ROOT / "workflow/profiles" / profile))
    said = snakemake(tmp_path, *given, "--cores", "4", "--dry-run").stdout
    (resources,) = set(re.findall(r"^rule train:\n(?: .*\n)*?    resources: (.*)", said, re.MULTILINE))
    asked = dict(pair.split("=", 1) for pair in resources.split(", "))
    assert asked["mem_mb"] == str(4000 + 4000 * processes) and asked["runtime"] == "1440"


def test_resources_on_the_command_line_take_none_from_trainings_and_outcomes(tmp_path: Path):
    """They replace whole sections of a profile; what trainings and outcomes need stands in their rules."""
    given = ("--configfile", str(ROOT / "workflow/config/digits-tiny.yaml"), "--cores", "4", "--dry-run")
    profile = ("--profile", str(ROOT / "workflow/profiles/slurm"))
    typed = ("--default-resources", "mem_mb=3000", "--set-resources", "ledger:mem_mb=9000")
    said = snakemake(tmp_path, *given, *profile, *typed).stdout
    asked = re.findall(r"^rule (\w+):\n(?: .*\n)*?    resources: (.*)", said, re.MULTILINE)
    found = {rule: dict(pair.split("=", 1) for pair in text.split(", ")) for rule, text in asked}
    assert (found["train"]["runtime"], found["train"]["mem_mb"]) == ("1440", "8000")
    assert (found["outcomes"]["runtime"], found["outcomes"]["mem_mb"]) == ("480", "3000")
    assert found["ledger"]["mem_mb"] == "9000" and found["report"]["mem_mb"] == "3000"


def test_every_job_asks_for_enough_memory_and_all_but_the_figures_for_one_core(tmp_path: Path):
    given = ("--configfile", str(ROOT / "workflow/config/digits-tiny.yaml"), "--cores", "4")
    text = snakemake(tmp_path, *given, "--profile", str(ROOT / "workflow/profiles/slurm"), "--dry-run").stdout
    asked = [line for line in text.splitlines() if line.strip().startswith("resources:")]
    assert len(asked) > 10
    for line in asked:
        resources = dict(pair.split("=", 1) for pair in line.split(":", 1)[1].strip().split(", "))
        assert int(resources["mem_mb"]) >= 600 and int(resources["runtime"]) > 0  # Snakemake itself takes 125 MB
    several = re.findall(r"^rule (\w+):\n(?: .*\n)*?    threads: (\d+)$", text, re.MULTILINE)
    assert several == [("figures", "2")]  # one thread is not told


def test_lint_is_clean(tmp_path: Path):
    ran = snakemake(tmp_path, "--lint")
    assert ran.returncode == 0 and "good condition" in ran.stdout + ran.stderr, ran.stdout + ran.stderr


def test_the_rules_are_formatted():
    ran = subprocess.run(
        [str(BIN / "snakefmt"), "--check", "Snakefile", "workflow/rules"], cwd=ROOT, capture_output=True
    )
    assert ran.returncode == 0, ran.stderr.decode()


def test_figures_alone_are_drawn_from_the_shipped_ledger_until_the_study_has_run_here(tmp_path: Path):
    fresh = snakemake(tmp_path, "figures", "--dry-run", "--quiet", "rules")
    assert fresh.returncode == 0 and "figures" in fresh.stdout and "train" not in fresh.stdout, fresh.stdout
    both = snakemake(tmp_path, "figures", "report", "--dry-run", "--quiet", "rules")
    assert "train" in both.stdout, both.stdout
    (tmp_path / "results" / "digits" / "data").mkdir(parents=True)
    begun = snakemake(tmp_path, "figures", "--dry-run", "--quiet", "rules")
    assert "train" in begun.stdout, begun.stdout
