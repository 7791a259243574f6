"""Several runs of a training job side by side: what comes out, what goes wrong, and that no process is left behind.

Each job runs as the rule runs it. Its stderr is a pipe that its children inherit: it ends when the last of them has.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from planted import make_plan
from small_runs import elsewhere, same_weights, without_seconds
from studies import study
from trees import ROOT, snakemake

from robustgap.training.__main__ import main
from robustgap.training.checkpoint import read_json
from robustgap.training.jobs.lock import RunLock
from robustgap.workflow.estimate.hours import hours_by_stage
from robustgap.workflow.grid import open_plan
from robustgap.workflow.jobs import Jobs

QUICK = {"defense": "Standard", "epochs": 2}
ENDLESS = {"defense": "Standard", "epochs": 100_000}
WHOLE_LINES = [
    r"run \d of 3: \w{10} \{.*\}",
    r"\w{10}: trains on \S+, cpu, CUDA_VISIBLE_DEVICES .*",
    r"\w{10} epoch \d/\d loss \S+ train \S+ val \S+ \S+ s, about \d+ s left(, catastrophic overfitting)?",
    r"\w{10}: collapsed: .*",
]


def written(folder: Path, runs: list[dict]) -> tuple[list[str], list[str]]:
    """A plan on disk: its runs, and the arguments of the job that trains them."""
    plan = make_plan(runs)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(plan))
    arguments = ["train", "--plan", folder / "plan.json", "--batch", "000", "--results", folder, "--device", "cpu"]
    return list(plan["runs"]), [*map(str, arguments), "--out", str(folder / "runs" / "000.json")]


def job(arguments: list[str]) -> subprocess.Popen:
    """That job with two processes, in a process group of its own; unbuffered, as some set it, stderr tears lines.
    Ctrl-C reaches it also where the tests themselves ignore it, as what a shell starts in the background does."""
    command = [sys.executable, "-m", "robustgap.training", *arguments, "--processes", "2"]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True, preexec_fn=heard, **pipes)


def until(lines: Iterator[str], *wanted: str) -> str:
    """What is said until every wanted text has been."""
    said = ""
    while not all(text in said for text in wanted):
        said += next(lines)
    return said


def test_two_processes_leave_what_one_leaves_and_whole_lines(tmp_path):
    given = [{"inner_steps": 1}, {"lr": 1e6, "inner_steps": 1}, QUICK]  # the second collapses
    runs, alone = written(tmp_path / "one", given)
    assert main(alone) == 0
    _, together = written(tmp_path / "two", given)
    said = job(together).communicate()[1]
    manifests = [read_json(tmp_path / name / "runs" / "000.json") for name in ("one", "two")]
    for manifest in manifests:
        assert all(entry["files"].pop("log.csv") for entry in manifest["runs"].values())  # whose lines have seconds
    assert manifests[0] == manifests[1]
    for run in runs:
        one, two = (tmp_path / folder / "runs" / run for folder in ("one", "two"))
        assert same_weights(one, two) and without_seconds(one) == without_seconds(two)
        assert {file.name for file in one.iterdir()} == {file.name for file in two.iterdir()}
    for line in said.splitlines():
        assert any(re.fullmatch(pattern, line) for pattern in WHOLE_LINES), line
    assert said.count(" epoch 2/2 ") == 2 and said.count(": collapsed: ") == 1


def test_a_run_that_fails_fails_the_job_and_loses_no_other(tmp_path):
    """Where the folder of the last run should be there is a file."""
    runs, arguments = written(tmp_path, [{"inner_steps": 1}, {**QUICK, "epochs": 9}, QUICK])
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / runs[2]).write_text("")
    process = job(arguments)
    said = process.communicate()[1]
    assert process.returncode == 1
    folder = str(tmp_path / "runs" / runs[2])
    assert said.splitlines()[-1] == f"error: {runs[2]}: FileExistsError: [Errno 17] File exists: {folder!r}"
    assert [read_json(tmp_path / "runs" / run / "run.json")["status"] for run in runs[:2]] == ["finished"] * 2
    assert not (tmp_path / "runs" / "000.json").exists()


def test_a_run_of_another_job_is_waited_for_after_the_others(tmp_path):
    runs, arguments = written(tmp_path, [QUICK, {**QUICK, "seed": 1}, {**QUICK, "seed": 2}])
    folder = tmp_path / "runs" / runs[0]
    folder.mkdir(parents=True)
    held = elsewhere(folder)
    process = job(arguments)
    until(process.stderr, "n7, process 4711", f"{runs[1]} epoch 2/2", f"{runs[2]} epoch 2/2")
    assert not (folder / "run.json").exists()
    held.release()
    process.communicate()
    assert process.returncode == 0 and list(read_json(tmp_path / "runs" / "000.json")["runs"]) == runs


@pytest.mark.parametrize("number, group", [(signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGINT, True)])
def test_no_child_outlives_its_parent(number, group, tmp_path):
    """They end in order, too: locks are released, sidecars stay."""
    runs, arguments = written(tmp_path, [ENDLESS, {**ENDLESS, "seed": 1}])
    process = job(arguments)
    until(process.stderr, *(f"{run} epoch 2/" for run in runs))
    (os.killpg if group else os.kill)(process.pid, number)
    rest = process.communicate()[1]
    assert process.returncode in (-number, 128 + number)
    assert rest.count("ended by SIGTERM") == (number == signal.SIGTERM)
    assert rest.count("Traceback") == (number == signal.SIGINT)  # the parent's own, as of a job without children
    for run in runs:
        left = {file.name for file in (tmp_path / "runs" / run).iterdir() if not file.name.endswith(".tmp")}
        assert left == {"init.safetensors", "log.csv", "resume.safetensors"}


def test_a_child_that_is_killed_is_named_when_the_other_has_finished(tmp_path):
    runs, arguments = written(tmp_path, [ENDLESS, {**QUICK, "epochs": 40}, QUICK])
    process = job(arguments)
    until(process.stderr, *(f"{run}: trains on" for run in runs[:2]))
    child = read_json(tmp_path / "runs" / runs[0] / "lock.1")["pid"]
    os.kill(child, signal.SIGKILL)
    said = process.communicate()[1]
    assert process.returncode == 1
    wanted = f"process {child} was killed, perhaps because memory ran out; its last run: {runs[0]}"
    assert said.splitlines()[-1] == f"error: {wanted}"
    assert read_json(tmp_path / "runs" / runs[1] / "run.json")["status"] == "finished"
    assert not (tmp_path / "runs" / runs[2]).exists()  # not begun after the fault
    RunLock(tmp_path / "runs" / runs[0]).acquire()  # the next job takes it at once


@pytest.mark.parametrize("found", ["0", "-1", "two", "1.5"])
def test_a_number_of_processes_that_is_none_is_refused(found, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*written(tmp_path, [QUICK])[1], f"--processes={found}"])
    assert f"--processes: found '{found}', wanted an integer >= 1" in capsys.readouterr().err


@pytest.mark.parametrize("profile", ["local", "slurm", "cluster"])
def test_the_rule_asks_for_a_core_for_each_process(profile, tmp_path):
    text = (ROOT / "workflow/config/digits-tiny.yaml").read_text() + "train_processes: 3\n"
    (tmp_path / "three.yaml").write_text(text)
    given = ("--configfile", str(tmp_path / "three.yaml"), "--profile", str(ROOT / "workflow/profiles" / profile))
    ran = snakemake(tmp_path, *given, "--cores", "4", "--dry-run", "--printshellcmds")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    jobs = ran.stdout.count("rule train:")
    assert jobs == ran.stdout.count("threads: 3") == ran.stdout.count(" --processes 3 > ") > 0


def test_processes_change_no_run_no_job_and_no_digest():
    one, four = (open_plan(study(train_processes=count), "s") for count in (1, 4))
    assert one["runs"] == four["runs"] and one["batches"] == four["batches"]
    jobs = Jobs(one), Jobs(four)
    for batch in one["batches"]:
        assert len({every.batch_digest(SimpleNamespace(batch=batch)) for every in jobs}) == 1
    assert jobs[0].plan_digest() == jobs[1].plan_digest() and jobs[0].data_digest() == jobs[1].data_digest()
    hours = [hours_by_stage(plan)["training"] for plan in (one, four)]
    assert hours[0] < hours[1]  # each process starts Python and loads the data
