"""One writer per run: who holds the lock, how that is told, and never two at once."""

import errno
import json
import os
import sys
import threading
from pathlib import Path

import pytest
from small_runs import elsewhere, files

from robustgap.training.jobs import lock
from robustgap.training.jobs.lock import Held, RunLock, machine, started


def test_one_holds_it_the_other_is_told_who(tmp_path):
    with RunLock(tmp_path) as first:
        first.check()
        with pytest.raises(Held, match=rf"{tmp_path}: is being trained by \S+, process {os.getpid()}, since \d"):
            RunLock(tmp_path).acquire()
    assert files(tmp_path) == []
    with RunLock(tmp_path) as second:
        second.check()


@pytest.mark.parametrize("name", lock.JOB_IDS)
def test_the_schedulers_job_is_named(name, tmp_path, monkeypatch):
    for other in lock.JOB_IDS:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "4242")
    with RunLock(tmp_path), pytest.raises(Held, match=", job 4242, since"):
        RunLock(tmp_path).acquire()


def test_a_process_id_that_is_used_again_does_not_pass_for_the_holder(tmp_path):
    """This process is alive, but it is not the one that started at tick 1."""
    said = {"pid": os.getpid(), "machine": machine(), "started": started(os.getpid())}
    if not said["machine"]:
        pytest.skip("this system does not name its boots: heartbeats alone count here")
    (tmp_path / "lock.1").write_text(json.dumps(said))
    with pytest.raises(Held):
        RunLock(tmp_path).acquire()
    (tmp_path / "lock.1").write_text(json.dumps({**said, "started": "1"}))
    RunLock(tmp_path).acquire()


def test_a_dead_child_that_nobody_waited_for_is_gone():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    assert started(child) == "" and started(os.getpid()) != ""
    os.waitpid(child, 0)


def test_a_stale_handle_is_a_lock_that_is_gone(tmp_path, monkeypatch):
    """NFS: another client removed the file between listing and reading it. Any other error is one."""
    elsewhere(tmp_path)
    number = errno.ESTALE
    opened = Path.open

    def stale(path, mode="r", *given, **more):
        if (path.name, mode) == ("lock.1", "rb"):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, mode, *given, **more)

    monkeypatch.setattr(Path, "open", stale)
    number = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        RunLock(tmp_path).acquire()
    number = errno.ESTALE
    watcher = RunLock(tmp_path)
    watcher.acquire()
    watcher.check()
    assert files(tmp_path) == ["lock.2"]


def contend(folder: Path, turns: int) -> None:
    """Processes that take the lock in turn, note when somebody is inside already, and every second time just die."""
    for turn in range(turns):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        mine = RunLock(folder / "run")
        while not mine.number:
            try:
                mine.acquire()
            except Held:
                os.sched_yield()
        try:
            (folder / "inside").touch(exist_ok=False)
            (folder / "turns").open("a").write("x")
            (folder / "inside").unlink()
        except OSError as error:
            (folder / "faults").open("a").write(f"{error}\n")
        if turn % 2:
            mine.release()
        os._exit(0)


def test_many_processes_never_two_at_once(tmp_path):
    (tmp_path / "run").mkdir()
    children = []
    for _ in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            contend(tmp_path, 25)
            os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert not (tmp_path / "faults").exists() and (tmp_path / "turns").read_text() == "x" * 100


def test_the_heart_beats_until_the_end(tmp_path, monkeypatch):
    beats, beaten = [], threading.Event()
    monkeypatch.setattr(lock, "BEAT", 0.001)

    def beat(self):
        beats.append(self.number)
        if len(beats) == 1:
            raise OSError("stale file handle")  # a hiccup of the file system does not end it
        beaten.set()

    monkeypatch.setattr(RunLock, "beat", beat)
    with RunLock(tmp_path) as held:
        assert beaten.wait(60)
    assert not held._thread.is_alive() and set(beats) == {1}
