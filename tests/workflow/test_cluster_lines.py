"""The one-line commands of README.md, and the cluster profile, typed as they stand, with a stand-in for the scheduler
that runs each job at once in an environment as bare as PBS and LSF may leave it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trees import ROOT, Tree

from robustgap.workflow.jobs import shell_prefix

TARGET = "results/digits-tiny/catalogue.json"
# what each takes its script from, and the id that it answers with
SCHEDULERS = {
    "Slurm": ("sbatch", 'script=$(eval echo "\\${$#}")', "17"),
    "PBS": ("qsub", 'script=$(eval echo "\\${$#}")', "17.server"),
    "SGE": ("qsub", 'script=$(eval echo "\\${$#}")', "17"),
    "LSF": ("bsub", "script=$(mktemp); cat > $script", "Job <17> is submitted to default queue <normal>."),
}


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree.of_project(tmp_path / "project")


def stand_in(tree: Tree, name: str, body: str) -> None:
    """A command of that name, found before any other."""
    file = tree.path / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


def typed(tree: Tree, line: str, path: str = "", folder: str = ".") -> str:
    """What a command line prints in `folder` of the tree; it must succeed, and make the target there."""
    env = tree.environment()
    env["PATH"] = path or f"{tree.path / 'bin'}:{env['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", line], cwd=tree.path / folder, env=env, capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tree.path / folder / TARGET).stat().st_size > 1000
    return ran.stdout + ran.stderr


def lines() -> dict[str, str]:
    """{scheduler: the whole command} of the table in README.md."""
    text = (ROOT / "README.md").read_text()
    head = re.search(r"^\| \| `(snakemake .*--cluster-generic-submit-cmd)` …", text, re.MULTILINE)
    assert head
    rows = re.findall(r"^\| (\w+) \| `(\".*\")`", text[head.end() :], re.MULTILINE)
    return {name: f"{head[1]} {quoted}" for name, quoted in rows}


def test_the_readme_has_a_line_for_each_scheduler():
    assert set(lines()) == set(SCHEDULERS)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_line_of_the_readme_runs_a_job(scheduler, tree):
    command, script, answer = SCHEDULERS[scheduler]
    bare = "env -i PATH=/usr/bin:/bin HOME=$HOME sh $script > ended.txt 2>&1"
    stand_in(tree, command, f'echo "$*" > asked.txt; {script}; {bare}; echo "{answer}"')
    line = lines()[scheduler].replace("snakemake ", f"snakemake {TARGET} --seconds-between-status-checks 1 ", 1)
    typed(tree, line.replace("NAME.yaml", "digits-tiny.yaml"))
    asked = (tree.path / "asked.txt").read_text()
    assert "8000" in asked and not re.search(r"[{}]|resources", asked)


def test_the_profile_ends_where_pbs_keeps_no_history_whatever_the_working_directory(tree):
    """Each job ends before it is first asked for, and PBS has forgotten it by then. Its scripts are named from the
    Snakefile, and are found from a folder that does not have them."""
    (tree.path / "elsewhere").mkdir()
    for folder in (Path("/bin"), Path("/usr/bin")):  # commands of this machine, but no scheduler of its own
        for tool in (
            file for file in folder.iterdir() if not re.match("sbatch|squeue|bsub|bjobs|q(sub|stat)", file.name)
        ):
            (tree.path / "bin").mkdir(exist_ok=True)
            (tree.path / "bin" / tool.name).unlink(missing_ok=True)
            (tree.path / "bin" / tool.name).symlink_to(tool)
    bare = "env -i PBS_JOBID=17.server PATH=/usr/bin:/bin HOME=$HOME sh $script > ended.txt 2>&1"
    stand_in(tree, "qsub", f"{SCHEDULERS['PBS'][1]}; {bare}; echo 17.server")
    forgotten = (
        'case "$1" in -x) echo "PBS is not configured to maintain job history" ;; *) echo "Unknown Job Id" ;; esac'
    )
    stand_in(tree, "qstat", f"{forgotten} >&2; exit 153")
    line = f"snakemake {TARGET} --seconds-between-status-checks 1 --configfile ../workflow/config/digits-tiny.yaml"
    line += " --snakefile ../Snakefile --workflow-profile ../workflow/profiles/cluster"
    said = typed(tree, line, f"{tree.path / 'bin'}:{Path(sys.executable).parent}", "elsewhere")
    assert "1 of 1 steps (100%) done" in said and "rying to restart" not in said, said


@pytest.mark.parametrize("extra, submitted", [("none", False), ("pool", True)])
def test_data_are_fetched_where_snakemake_runs_but_a_pool_is_labelled_on_a_node(extra, submitted, tree):
    tree.edit("workflow/config/digits-tiny.yaml", "  epochs: 6\n", f"  epochs: 6\n  extra_data: {extra}\n")
    stand_in(tree, "sbatch", "touch asked.txt; exit 1")
    line = lines()["Slurm"].replace("NAME.yaml", "digits-tiny.yaml").replace("sbatch", "bin/sbatch")
    ran = tree.command("bash", "-c", line.replace("snakemake ", "snakemake data ", 1))
    assert (ran.code, ran.jobs["data"]) == ((1, 0) if submitted else (0, 1)), ran.text
    assert (tree.path / "asked.txt").exists() == submitted


def python_of(prefix: str, path: str) -> str:
    command = [
        str(shutil.which("bash")),
        "-c",
        f"set -euo pipefail; {prefix}robustgap_python -c 'import sys; print(sys.executable)'",
    ]
    return subprocess.run(command, env={"PATH": path}, capture_output=True, text=True).stdout.strip()


def test_jobs_run_on_the_python_of_snakemake_unless_it_brings_environments(tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\necho another\n")
    (tmp_path / "python").chmod(0o755)
    assert python_of(shell_prefix(), str(tmp_path)) == str(Path(sys.executable).parent / "python")
    assert python_of(shell_prefix({"conda"}), str(tmp_path)) == "another"
