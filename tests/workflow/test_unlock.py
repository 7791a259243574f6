"""Snakemake's lock on a study: released where its owner is gone, and nowhere else."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from trees import ROOT, Tree

from robustgap.training.jobs.lock import own_content
from robustgap.workflow import run_study, unlock

STUDY = str(ROOT / "workflow/config/digits-tiny.yaml")
LOCK = "results/digits-tiny/catalogue.json\n"


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch) -> Path:
    """A working directory that a Snakemake has locked for digits-tiny; another study is locked there too."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / unlock.LOCKS
    folder.mkdir(parents=True)
    for name in ("0.input.lock", "0.output.lock"):
        (folder / name).write_text(LOCK)
    (folder / "1.output.lock").write_text("results/digits-tiny-too/catalogue.json\n")
    return folder


def owned(locks: Path, **changes: object) -> Path:
    """A record as this process makes it, changed."""
    unlock.record_owner("digits-tiny")
    (made,) = locks.glob("owner.*")
    record = locks / "owner.1"
    record.write_text(json.dumps(json.loads(made.read_text()) | changes))
    made.unlink()
    return record


def ended() -> int:
    """The id of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def told(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("how", ["process gone", "id used again", "rebooted"])
def test_a_lock_whose_owner_is_gone_is_released_alone(how: str, locks: Path, monkeypatch, tmp_path: Path, capsys):
    (tmp_path / "machine-id").write_text("0123\n")
    monkeypatch.setattr(unlock, "MACHINE_ID", tmp_path / "machine-id")
    changes = {
        "process gone": {"pid": ended()},
        "id used again": {"started": "1"},
        "rebooted": {"machine": "another-boot pid:[1]"},
    }
    owned(locks, **changes[how])
    assert unlock.main([STUDY]) == 0
    assert told(capsys).startswith("results/digits-tiny: lock released: ")
    assert [file.name for file in locks.iterdir()] == ["1.output.lock"]
    assert unlock.main([STUDY]) == 0 and capsys.readouterr().err == ""


LEFT = {
    "running": {},
    "another machine": {"machine": "another-boot pid:[1]", "host": "another", "pid": 2**22},
    "another system of that name": {"machine": "another-boot pid:[1]", "system": "another", "pid": 2**22},
    "a system without a name": {"machine": "another-boot pid:[1]", "system": "", "pid": 2**22},
}


@pytest.mark.parametrize("changes", LEFT.values(), ids=LEFT)
def test_a_lock_whose_owner_may_run_is_left_in_one_line(changes: dict, locks: Path, capsys):
    owned(locks, **changes)
    there = sorted(locks.iterdir())
    assert unlock.main([STUDY]) == 1
    line = told(capsys)
    assert line.startswith("results/digits-tiny: locked by a Snakemake: ") and "snakemake --unlock" in line
    assert sorted(locks.iterdir()) == there


@pytest.mark.parametrize("how", ["no record", "written anew", "record of no text", "one of two"])
def test_a_lock_that_no_record_tells_of_is_left(how: str, locks: Path, capsys):
    if how != "no record":
        record = owned(locks, pid=ended())
    if how == "written anew":  # by a Snakemake that has not come to its first job
        os.utime(locks / "0.output.lock", (1, 1))
    elif how == "record of no text":
        record.write_bytes(b"\xff{")
    elif how == "one of two":
        (locks / "2.output.lock").write_text(LOCK)
    there = sorted(locks.iterdir())
    assert unlock.main([STUDY]) == 1
    assert "locked by an unknown Snakemake" in told(capsys) and sorted(locks.iterdir()) == there


def test_a_killed_study_is_unlocked_and_goes_on(project: Tree):
    """A job kills Snakemake itself: by SIGHUP, as a terminal that goes does, or where that is ignored (nohup) by
    SIGKILL."""
    number = signal.SIGKILL if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else signal.SIGHUP
    project.edit("workflow/config/digits-tiny.yaml", "chunks: 3", "extra_rules: [killer.smk]\nchunks: 3")
    body = f'"test -e once && touch {{output}} || {{{{ touch once; kill -{int(number)} $PPID; }}}}"'
    (project.path / "killer.smk").write_text(
        f'rule killer:\n    output:\n        "<results>/killed.txt",\n    shell:\n        {body}\n'
    )
    target = "results/digits-tiny/killed.txt"
    killed = project.run("digits-tiny", target)
    assert killed.code == -number and list((project.path / unlock.LOCKS).glob("*.lock")), killed.text
    unlocked = project.command("python", "-m", "robustgap.workflow.unlock", "workflow/config/digits-tiny.yaml")
    assert unlocked.code == 0 and "lock released" in unlocked.text
    again = project.run("digits-tiny", target)
    assert again.code == 0 and (project.path / target).exists(), again.text
    assert not list((project.path / unlock.LOCKS.parent).glob("locks/*"))


def test_a_study_releases_such_a_lock_before_snakemake_starts(locks: Path, capfd):
    owned(locks, pid=ended())
    assert run_study.main(["digits-tiny", "--version"]) == 0
    output, errors = capfd.readouterr()
    assert output.splitlines()[-1].startswith("9.") and "lock released" in errors
    assert [file.name for file in locks.iterdir()] == ["1.output.lock"]


def test_a_record_says_who_and_where(locks: Path):
    unlock.record_owner("digits-tiny")
    said = json.loads((locks / f"owner.{os.getpid()}").read_text())
    assert said["machine"] == json.loads(own_content())["machine"] and set(said["locks"]) == {
        "0.input.lock",
        "0.output.lock",
    }
