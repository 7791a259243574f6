"""One writer per run: who gets the lock, who waits, and when it changes hands. Clocks are given, nothing sleeps."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from small_runs import elsewhere, same_weights, settings_of, train

from training import lock, loop, run
from training.data import load
from training.lock import LOOK, POLL, SILENCE, Held, RunLock, machine, started, take_turns
from training.run import train_run
from training.settings import run_id


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watch(clock: Clock, *watchers: RunLock) -> None:
    """The watchers look every POLL seconds, until one look before the silence was long enough."""
    for _ in range(round(SILENCE / POLL) - 1):
        clock.now += POLL
        for watcher in watchers:
            with pytest.raises(Held):
                watcher.acquire()
    clock.now += POLL


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


def test_a_process_of_this_machine_that_is_gone_is_followed_at_once(tmp_path, clock, capsys):
    code = f"import os, pathlib, training.lock as l; l.RunLock(pathlib.Path({str(tmp_path)!r})).acquire(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(lock.__file__).parents[1]).returncode == 9
    assert files(tmp_path) == ["lock.1"]
    RunLock(tmp_path, clock).acquire()
    assert files(tmp_path) == ["lock.2"]
    assert ": its process is gone" in capsys.readouterr().err


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


@pytest.mark.parametrize("content", [None, b"", b'{"host": "n7"', b"[]"])
def test_another_machine_is_followed_when_silent_on_the_watchers_clock(content, tmp_path, clock, capsys):
    """Also a lock that was only created, or is damaged. The heartbeat's own time (1970 here) means nothing."""
    holder = elsewhere(tmp_path)
    if content is not None:
        (tmp_path / "lock.1").write_bytes(content)
    os.utime(tmp_path / "lock.1", (0, 0))
    watcher = RunLock(tmp_path, clock)
    with pytest.raises(Held, match="n7, process 4711, job 17" if content is None else "unknown host"):
        watcher.acquire()
    watch(clock, watcher)
    os.utime(tmp_path / "lock.1")  # a heartbeat: the watch starts again
    with pytest.raises(Held):
        watcher.acquire()
    watch(clock, watcher)
    watcher.acquire()
    assert "silent for 180 s" in capsys.readouterr().err and not holder.mine()


def test_a_watcher_that_saw_nothing_for_long_bears_no_witness_to_silence(tmp_path, clock):
    """After an outage of the file server the old heartbeat is all there is to see, although the holder lives."""
    holder, watcher = elsewhere(tmp_path), RunLock(tmp_path, clock)
    for wait in (0, 600, 86400):
        clock.now += wait
        with pytest.raises(Held):
            watcher.acquire()
    assert holder.mine()
    clock.now += SILENCE - 2 * LOOK  # as every gap before, it counts as one look
    with pytest.raises(Held):
        watcher.acquire()
    for _ in range(round(SILENCE / LOOK) - 4):
        clock.now += LOOK
        with pytest.raises(Held):
            watcher.acquire()
    clock.now += LOOK
    watcher.acquire()


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


def test_a_beat_is_seen_and_a_frozen_holder_never_writes_again(tmp_path, clock):
    holder, watcher = elsewhere(tmp_path), RunLock(tmp_path, clock)
    os.utime(tmp_path / "lock.1", (0, 0))
    holder.beat()
    assert (tmp_path / "lock.1").stat().st_mtime > 0
    with pytest.raises(Held):
        watcher.acquire()
    watch(clock, watcher)
    watcher.acquire()
    os.utime(tmp_path / "lock.2", (0, 0))
    with pytest.raises(Held, match="was taken over"):
        holder.check()
    holder.beat()
    holder.release()
    assert files(tmp_path) == ["lock.2"] and (tmp_path / "lock.2").stat().st_mtime == 0
    watcher.check()


def test_a_frozen_holder_is_not_taken_in_by_its_old_number(tmp_path, clock):
    """Its lock.1 was followed by lock.2, that was released, and a third process made a lock.1 of its own."""
    holder, watcher = elsewhere(tmp_path), RunLock(tmp_path, clock)
    with pytest.raises(Held):
        watcher.acquire()
    watch(clock, watcher)
    watcher.acquire()
    watcher.release()
    third = RunLock(tmp_path)
    third.acquire()
    assert files(tmp_path) == ["lock.1"] and not holder.mine()
    holder.release()
    third.check()


@pytest.mark.parametrize("released", [False, True])
def test_of_two_that_saw_the_same_silence_one_gets_it(released, tmp_path, clock, monkeypatch):
    """The slower one is overtaken between its look and its move; the winner may even have finished by then."""
    elsewhere(tmp_path)
    slow, quick = RunLock(tmp_path, clock), RunLock(tmp_path, clock)
    for watcher in (slow, quick):
        with pytest.raises(Held):
            watcher.acquire()
    watch(clock, slow, quick)
    look = slow._reason_to_take

    def overtaken(number):
        reason = look(number)
        quick.acquire()
        if released:
            quick.release()
        return reason

    monkeypatch.setattr(slow, "_reason_to_take", overtaken)
    with pytest.raises(Held, match="changed hands" if released else "taken by another"):
        slow.acquire()
    assert files(tmp_path) == ([] if released else ["lock.2"])


def test_a_successor_that_died_before_it_tidied_up_is_followed(tmp_path, clock):
    elsewhere(tmp_path, 4)
    elsewhere(tmp_path, 5)
    watcher = RunLock(tmp_path, clock)
    with pytest.raises(Held):
        watcher.acquire()
    watch(clock, watcher)
    watcher.acquire()
    assert files(tmp_path) == ["lock.6"]


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


def test_what_others_train_comes_last_and_is_waited_for(capsys):
    """b is with somebody for three tries, d for one."""
    left, order, naps = {"b": 3, "d": 1}, [], []

    def work(run):
        order.append(run)
        if left.get(run, 0):
            left[run] -= 1
            raise Held(f"{run}: is being trained by n7")

    take_turns("abcd", work, naps.append)
    assert order == ["a", "b", "c", "d", "b", "d", "b", "b"]
    assert naps == [lock.POLL]  # only where a whole round brought nothing
    assert capsys.readouterr().err.splitlines() == [
        f"{run}: is being trained by n7: others first, then waiting for it" for run in "bd"
    ]


def test_a_run_that_another_process_trains_is_left_alone(tmp_path):
    folder = tmp_path / run_id(settings_of())
    folder.mkdir()
    elsewhere(folder)
    with pytest.raises(Held):
        train(tmp_path)
    assert files(folder) == ["lock.1"]


def test_a_job_that_was_taken_over_in_its_sleep_stops_before_it_writes(tmp_path, monkeypatch, capsys):
    """In the second epoch the lock changes hands: the sidecar stays where the first epoch left it, and from there the
    successor ends with the weights of an unbroken run."""
    unbroken, _ = train(tmp_path / "unbroken")
    settings, scores, seen = settings_of(), loop.epoch_scores, []
    folder = tmp_path / run_id(settings)

    def frozen(*arguments):
        seen.append((folder / "resume.safetensors").read_bytes() if seen else None)
        if len(seen) == 2:
            elsewhere(folder, 2)
        return scores(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Held, match="was taken over"):
        patch.setattr(loop, "epoch_scores", frozen)
        train(tmp_path)
    assert (folder / "resume.safetensors").read_bytes() == seen[1] and not (folder / "run.json").exists()
    (folder / "lock.2").unlink()
    train_run(settings, load("digits"), None, folder, loop.torch.device("cpu"))
    assert f"{folder.name}: resumed after epoch 1" in capsys.readouterr().err
    assert same_weights(folder, unbroken)


@pytest.mark.parametrize(
    "last_act, missing", [("save_model", "best.safetensors"), ("save_tensors", "run.json"), ("make_record", "run.json")]
)
def test_a_job_taken_over_while_it_writes_its_results_writes_no_further(last_act, missing, tmp_path, monkeypatch):
    """The lock changes hands in the middle of the final writes: what comes next belongs to the successor."""
    folder, original = tmp_path / run_id(settings_of()), getattr(run, last_act)

    def frozen(*given, **more):
        done = original(*given, **more)
        if last_act != "save_model" or given[0].name == "last.safetensors":  # not the one of the untrained network
            elsewhere(folder, 2)
        return done

    monkeypatch.setattr(run, last_act, frozen)
    with pytest.raises(Held, match="was taken over"):
        train(tmp_path)
    assert not (folder / missing).exists() and (folder / "resume.safetensors").exists()


def test_a_job_taken_over_at_its_end_leaves_the_sidecar_to_its_successor(tmp_path, monkeypatch):
    folder, original = tmp_path / run_id(settings_of()), run.write_json

    def frozen(*given):
        original(*given)
        elsewhere(folder, 2)

    monkeypatch.setattr(run, "write_json", frozen)
    with pytest.raises(Held, match="was taken over"):
        train(tmp_path)
    assert (folder / "resume.safetensors").exists()
