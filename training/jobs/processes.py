"""Trains the runs of one job: one after another, or several in parallel, each in its own process.

Small networks leave a device idle between kernels; parallel runs in separate processes fill it and share nothing else.
A child requests a run whenever it is idle, reports the result, and finally waits for the runs that it found locked by
another job. The pipe used for requests also tracks the parent: however the parent ends, the system closes the pipe, and
the child shuts down cleanly, as on SIGTERM.
"""

import contextlib
import multiprocessing
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import torch

from robustgap.training.jobs.lock import RunLock, take_turns
from robustgap.training.jobs.plan import splits_of
from robustgap.training.jobs.provenance import require_reproducible
from robustgap.training.jobs.pseudo_labels import extra_images
from robustgap.training.jobs.run import train_run
from robustgap.training.jobs.run_record import require_same_arithmetic
from robustgap.training.settings import Record, Settings, StudyFile

GRACE = 20.0  # seconds for children to shut down cleanly before they are killed
ASK, DONE, FAULT = "ask", "done", "fault"  # messages from a child ...
STOP = "stop"  # ... and to a child, besides runs, and None when there are no more

Report = Callable[[str, Record], None]


class Job(NamedTuple):
    """A training job: the study, the settings of each run, the study's folder, and the device."""

    study: StudyFile
    settings: dict[str, Settings]
    results: Path
    device: torch.device


def trainer(job: Job, report: Report) -> Callable[[str], None]:
    """Return work(run), which trains a run, or picks up an existing one, and reports the result. work raises Held while
    another process is training the run, ValueError if it was trained in other arithmetic than the study requires.

    Loads the data set. Raises ValueError if this process is not as reproducible as the study requires.
    """
    require_reproducible(job.study)
    splits, runs = splits_of(job.study), list(job.settings)
    locks, announced = {run: RunLock(job.results / "runs" / run) for run in runs}, set[str]()

    def work(run: str) -> None:
        settings = job.settings[run]
        if run not in announced:
            print(f"run {runs.index(run) + 1} of {len(runs)}: {run} {settings}", file=sys.stderr)
            announced.add(run)
        require_same_arithmetic(job.study, job.results / "runs" / run)
        extra = extra_images(settings["extra_data"], splits, job.study, job.results)
        record = train_run(settings, splits, extra, job.results / "runs" / run, job.device, locks[run])
        report(run, {key: record[key] for key in ("status", "reason", "files")})
        if record["status"] == "collapsed":
            print(f"{run}: collapsed: {record['reason']}", file=sys.stderr)

    return work


def side_by_side(job: Job, processes: int, report: Report) -> None:
    """Train a job's runs in this many processes, each with as many threads as this process.

    Raises ChildProcessError, with a line for each failed process, after the others have finished their current runs.
    """
    context, children = multiprocessing.get_context("spawn"), dict[Connection, BaseProcess]()  # CUDA breaks in a fork
    try:
        for _ in range(processes):
            here, there = context.Pipe()
            child = context.Process(target=train_as_told, args=(there, job, torch.get_num_threads()), daemon=True)
            child.start()
            there.close()
            children[here] = child
        faults = hand_out(job.settings, children, report)
    finally:
        end(children)
    if faults:
        raise ChildProcessError("\n".join(faults))


def hand_out(runs: Iterable[str], children: dict[Connection, BaseProcess], report: Report) -> list[str]:
    """Give each idle child the next run until all children have ended; returns error messages. After the first error,
    no further run is started."""
    left, there, given, faults = iter(runs), dict(children), dict.fromkeys(children, "none"), list[str]()

    def fault(text: str) -> None:
        faults.append(text)
        for pipe in there:
            tell(pipe, STOP)

    while there:
        for pipe in wait(list(there)):
            assert isinstance(pipe, Connection)
            try:
                kind, *said = pipe.recv()
            except (EOFError, OSError):
                child = there.pop(pipe)
                child.join()
                if child.exitcode:
                    fault(f"process {child.pid} {how_ended(child.exitcode)}; its last run: {given[pipe]}")
                continue
            if kind == ASK:
                run = None if faults else next(left, None)
                given[pipe] = run or given[pipe]
                tell(pipe, run)
            elif kind == DONE:
                report(*said)
            else:
                fault(*said)
    return faults


def tell(pipe: Connection, what: str | None) -> None:
    with contextlib.suppress(OSError):  # a dead child is noticed when its pipe is read
        pipe.send(what)


def how_ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed, as happens where memory runs out"
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def end(children: dict[Connection, BaseProcess]) -> None:
    """Shut down all children, and make sure that they end."""
    latest = time.monotonic() + GRACE
    for pipe in children:
        pipe.close()
    for child in children.values():
        child.join(max(0.0, latest - time.monotonic()))
        if child.is_alive():
            child.kill()
            child.join()


def train_as_told(pipe: Connection, job: Job, threads: int) -> None:
    """Main loop of a child: train the runs received on the pipe, then those that other jobs held."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the parent, which ends its children
    signal.signal(signal.SIGTERM, end_in_order)
    torch.set_num_threads(threads)
    sys.stderr.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]  # a line is one write
    told, stopped = queue.SimpleQueue[str | None](), threading.Event()
    threading.Thread(target=listen, args=(pipe, told, stopped), daemon=True).start()

    def ask() -> str | None:
        pipe.send((ASK,))
        return told.get()

    current = "before its first run"
    try:
        train = trainer(job, lambda run, entry: pipe.send((DONE, run, entry)))

        def work(run: str) -> None:
            nonlocal current
            if stopped.is_set():
                sys.exit()
            current = run
            train(run)

        take_turns(iter(ask, None), work)
    except Exception as error:
        if not isinstance(error, (ValueError, LookupError, OSError)):  # those already give a one-line reason
            traceback.print_exc()
        with contextlib.suppress(OSError):
            pipe.send((FAULT, f"{current}: {type(error).__name__}: {' '.join(str(error).split())}"))


def listen(pipe: Connection, told: "queue.SimpleQueue[str | None]", stopped: threading.Event) -> None:
    """Forward the parent's messages; when the parent is gone, end this process."""
    try:
        while True:
            said = pipe.recv()
            if said == STOP:
                stopped.set()
            told.put(None if said == STOP else said)
    except (EOFError, OSError):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def end_in_order(number: int, frame: object) -> None:
    """End by SystemExit, which releases the lock and removes half-written files; ignore a second signal, which would
    interrupt that."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)
