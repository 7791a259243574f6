"""When a lock changes hands: its holder is gone, or silent on the watcher's clock. Clocks are given, nothing sleeps."""

import os
import subprocess
import sys

import pytest
from small_runs import elsewhere, files
from trees import ROOT

from robustgap.training.jobs.lock import LOOK, POLL, SILENCE, Held, RunLock


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


def test_a_process_of_this_machine_that_is_gone_is_followed_at_once(tmp_path, clock, capsys):
    take = f"RunLock(pathlib.Path({str(tmp_path)!r})).acquire()"
    code = f"import os, pathlib; from robustgap.training.jobs.lock import RunLock; {take}; os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    assert files(tmp_path) == ["lock.1"]
    RunLock(tmp_path, clock).acquire()
    assert files(tmp_path) == ["lock.2"]
    assert ": its process is gone" in capsys.readouterr().err


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
