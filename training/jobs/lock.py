"""Lock of a run: a lock file with a heartbeat in the run's folder, for file systems shared between machines.

If Snakemake is killed and restarted, it submits jobs whose predecessors are still running. The lock makes the second
job leave a locked run alone, train the rest of its batch, and wait for the locked ones.

The lock is the file lock.N, created exclusively (atomic on NFS, Lustre and local disks alike). Its content identifies
the holder; its modification time is the heartbeat, updated every BEAT seconds. A waiting process checks both and takes
over
- at once, if the holder ran on the same machine and its process is gone;
- otherwise if nothing changed for SILENCE seconds on its own clock: clocks of two machines are never compared. Of the
  time between two checks at most LOOK seconds count: what delayed the check, such as a file server outage or a frozen
  machine, may also have hidden the holder's heartbeat.
Taking over means creating lock.N+1: exactly one of several watchers succeeds, and an old holder that was merely frozen
notices before it writes again. SILENCE is well above the 60 s for which NFS may report old times.
"""

import errno
import json
import os
import platform
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

BEAT, SILENCE, POLL = 15.0, 180.0, 5.0  # seconds: between heartbeats; until takeover; between two checks
LOOK = 3 * POLL  # maximum seconds of silence counted per check
Owner = dict[str, Any]  # the process that made a lock, as recorded in it
JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")  # environment variables set by schedulers


class Held(Exception):
    """Another process is training this run; the message says which."""


def machine() -> str:
    """Identifies this boot of this machine and this process namespace, within which a process id is meaningful; '' if
    the system does not provide it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def started(pid: int) -> str:
    """Start time of a process in clock ticks since boot, which with its id identifies it. '' if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2]  # after the name, which may hold any bytes
    except OSError:
        return ""
    state, *rest = fields.decode("ascii").split()
    return "" if state in "ZX" else rest[18]


def surely_dead(owner: Owner) -> bool:
    """Whether the holder's process is known to be gone; also False if that cannot be determined from here."""
    if not (owner.get("machine") and owner["machine"] == machine()):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's process, which /proc may hide
        return False
    return started(owner["pid"]) != str(owner["started"])


def own_content() -> bytes:
    """Content for a lock of this process; unique."""
    job = next((os.environ[name] for name in JOB_IDS if os.environ.get(name)), "")
    owner = {"host": platform.node(), "pid": os.getpid(), "job": job, "since": time.strftime("%F %T %z")}
    owner |= {"machine": machine(), "started": started(os.getpid()), "token": uuid.uuid4().hex}
    return (json.dumps(owner) + "\n").encode()


def read_content(content: bytes) -> Owner:
    """Parsed content of a lock; {} if it was only just created, or is damaged."""
    try:
        owner = json.loads(content)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def describe(owner: Owner) -> str:
    job = f", job {owner['job']}" if owner.get("job") else ""
    return f"{owner.get('host', 'unknown host')}, process {owner.get('pid', '?')}{job}, since {owner.get('since', '?')}"


class RunLock:
    """The lock of one run's folder, as seen by one process: `with RunLock(folder) as lock: ...; lock.check(); ...`.

    Entering raises Held while another process holds the lock, and OSError if no file can be created. It does not wait:
    enter again later, with the same object, which remembers how long the holder has been silent.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic):
        self.folder, self.clock, self.content = folder, clock, own_content()
        self.number = 0  # N of lock.N; 0 while it is not ours
        self._seen: tuple[int, bytes, int] | None = None  # number, content, heartbeat of another's lock, ...
        self._silent = 0.0  # ... for how many seconds it has looked like this, ...
        self._looked = 0.0  # ... and when it was last checked
        self._ended = threading.Event()

    def _path(self, number: int) -> Path:
        return self.folder / f"lock.{number}"

    def _numbers(self) -> list[int]:
        names = os.listdir(self.folder)
        return [int(name[5:]) for name in names if name.startswith("lock.") and name[5:].isdigit()]

    def _look(self, number: int) -> tuple[bytes, int] | None:
        """Content and heartbeat of a lock; None if it is gone. Opens the file, because NFS revalidates on open."""
        try:
            with self._path(number).open("rb") as file:
                return file.read(), os.fstat(file.fileno()).st_mtime_ns
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # stale: on NFS, another client removed it meanwhile
                return None
            raise

    def _reason_to_take(self, number: int) -> str:
        """Why another process's lock may be taken; raises Held if it may not."""
        lock = self._look(number)
        if lock is None:
            return "released"
        owner, now, seen = read_content(lock[0]), self.clock(), (number, *lock)
        if surely_dead(owner):
            return f"{describe(owner)}: its process is gone"
        self._silent = self._silent + min(now - self._looked, LOOK) if seen == self._seen else 0.0
        self._seen, self._looked = seen, now
        if self._silent < SILENCE:
            raise Held(f"{self.folder}: is being trained by {describe(owner)}")
        return f"{describe(owner)}: silent for {self._silent:.0f} s"

    def acquire(self) -> None:
        """Take the lock, or raise Held. The folder must exist. Raises OSError naming the file, for instance on a full
        disk."""
        previous = max(self._numbers(), default=0)
        reason = self._reason_to_take(previous) if previous else ""
        path = self._path(previous + 1)
        try:
            with path.open("xb") as file:
                file.write(self.content)
        except FileExistsError as error:
            raise Held(f"{self.folder}: has just been taken by another process") from error
        except OSError as error:
            path.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(path)) from error
        # If the previous lock has changed meanwhile, another process may have succeeded it: then nobody gets the lock.
        others = [number for number in self._numbers() if number != previous + 1]
        if max(others, default=0) != previous:
            path.unlink(missing_ok=True)
            raise Held(f"{self.folder}: has just changed hands")
        if reason:
            print(f"{self.folder}: taken over from {reason}", file=sys.stderr)
        self.number = previous + 1
        for number in others:
            self._path(number).unlink(missing_ok=True)

    def mine(self) -> bool:
        """Whether this process still holds the lock."""
        lock = self._look(self.number) if self.number else None
        return lock is not None and lock[0] == self.content and max(self._numbers()) == self.number

    def check(self) -> None:
        """Call before every write. Raises Held if the lock was taken over while this process was frozen."""
        if not self.mine():
            raise Held(f"{self.folder}: was taken over by another process while this one was silent")

    def beat(self) -> None:
        """Send one heartbeat."""
        if self.mine():
            os.utime(self._path(self.number))

    def release(self) -> None:
        lock = self._look(self.number)
        if lock is not None and lock[0] == self.content:
            self._path(self.number).unlink(missing_ok=True)
        self.number = 0

    def _keep_beating(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                self.beat()
            except OSError as error:  # a file system error, perhaps temporary: the next beat may succeed
                print(f"{self.folder}: no heartbeat: {error}", file=sys.stderr)

    def __enter__(self) -> "RunLock":
        self.acquire()
        self._ended.clear()
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self.release()


def take_turns(runs: Iterable[str], work: Callable[[str], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """Call work(run) for every run, each taken from `runs` when its turn comes. If it raises Held, another job is
    training the run; it is retried after the others, every POLL seconds, and the result picked up then. The process
    waited for is reported once, on stderr."""
    remaining, reported = runs, dict[str, str]()
    while True:
        tried, held = 0, []
        for run in remaining:
            tried += 1
            try:
                work(run)
            except Held as reason:
                held.append(run)
                if reported.get(run) != str(reason):
                    reported[run] = str(reason)
                    print(f"{reason}: training the others first, then waiting for it", file=sys.stderr)
        if not held:
            return
        if len(held) == tried:
            sleep(POLL)
        remaining = held
