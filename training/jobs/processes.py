"""The runs of one training job: one after another, or several side by side, each in a process of its own.

Small networks leave a device idle between their kernels; runs in separate processes fill it, and share nothing but it.
A child asks for a run whenever it has none, tells what became of it, and in the end waits for the runs that it found
with another job. The pipe on which it asks is also what it lives by: where the parent goes, however it goes, the system
closes the pipe, and the child ends in order, as by SIGTERM.
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

GRACE = 20.0  # seconds in which children end in order, before they are killed
ASK, DONE, FAULT = "ask", "done", "fault"  # what a child says ...
STOP = "stop"  # ... and what it is told, apart from runs, and None when there are no more

Report = Callable[[str, dict], None]


class Job(NamedTuple):
    """What there is to train: the study, the settings of each run, the study's folder, and where."""

    study: dict
    settings: dict[str, dict]
    results: Path
    device: torch.device


def trainer(job: Job, report: Report) -> Callable[[str], None]:
    """work(run), which trains a run, or picks up what is there, and reports what becomes of it. It raises Held while
    another process is at that run, ValueError where it was trained in other arithmetic than the study wants.

    Loads the data set. Raises ValueError where this process is not as reproducible as the study wants."""
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
    """Train the runs of a job in so many processes, with as many threads each as this one has.

    Raises ChildProcessError, a line for each process that failed, when the others have finished the runs they were at.
    """
    context, children = multiprocessing.get_context("spawn"), dict[Connection, BaseProcess]()  # CUDA survives no fork
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
    """Give each child that asks the next run until all children have ended; what went wrong. From the first fault on
    no further run is begun."""
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
    with contextlib.suppress(OSError):  # a child that is gone is noticed when its pipe is read
        pipe.send(what)


def how_ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed, as happens where memory runs out"
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def end(children: dict[Connection, BaseProcess]) -> None:
    """Let all children go, and see that they do."""
    latest = time.monotonic() + GRACE
    for pipe in children:
        pipe.close()
    for child in children.values():
        child.join(max(0.0, latest - time.monotonic()))
        if child.is_alive():
            child.kill()
            child.join()


def train_as_told(pipe: Connection, job: Job, threads: int) -> None:
    """What a child does: train the runs that it is given on the pipe, then those that others had been at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its children
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
        if not isinstance(error, (ValueError, LookupError, OSError)):  # those say in one line what is wrong
            traceback.print_exc()
        with contextlib.suppress(OSError):
            pipe.send((FAULT, f"{current}: {type(error).__name__}: {' '.join(str(error).split())}"))


def listen(pipe: Connection, told: "queue.SimpleQueue[str | None]", stopped: threading.Event) -> None:
    """Pass on what the parent says; when it is gone, end this process."""
    try:
        while True:
            said = pipe.recv()
            if said == STOP:
                stopped.set()
            told.put(None if said == STOP else said)
    except (EOFError, OSError):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def end_in_order(number: int, frame: object) -> None:
    """End by SystemExit, on which the lock is released and half-written files are removed; a second signal, which would
    break that off, is ignored."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)
