"""Trains the runs of one job: one after another, or several in parallel, each in its own process.

Small networks leave a device idle between kernels; parallel runs in separate processes fill it and share nothing else.
A child requests a run whenever it is idle, reports its result, and finally waits for the runs that another job holds.
When the parent ends, for whatever reason, the system closes its pipe, and the child shuts down cleanly, as on SIGTERM.
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
ASK, DONE, FAULT = "ask", "done", "fault"  # messages from a child
STOP = "stop"  # message to a child; others are a run, or None when there are no more

Report = Callable[[str, Record], None]


class Job(NamedTuple):
    """A training job: the study, the settings of each run, the study's folder, and the device."""

    study: StudyFile
    settings: dict[str, Settings]
    results: Path
    device: torch.device


def make_trainer(job: Job, report: Report) -> Callable[[str], None]:
    """Return a function that trains a run, unless it is finished, and reports the result. It raises Held while another
    process is training the run, ValueError if the run was trained in other arithmetic than the study requires.

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


def train_in_parallel(job: Job, processes: int, report: Report) -> None:
    """Train a job's runs in this many processes, each with as many threads as this process.

    Raises ChildProcessError, with a line for each failed process, after the others have finished their current runs.
    """
    context, children = multiprocessing.get_context("spawn"), dict[Connection, BaseProcess]()  # CUDA breaks in a fork
    try:
        for _ in range(processes):
            parent_end, child_end = context.Pipe()
            child = context.Process(target=child_main, args=(child_end, job, torch.get_num_threads()), daemon=True)
            child.start()
            child_end.close()
            children[parent_end] = child
        faults = assign_runs(job.settings, children, report)
    finally:
        shut_down(children)
    if faults:
        raise ChildProcessError("\n".join(faults))


def assign_runs(runs: Iterable[str], children: dict[Connection, BaseProcess], report: Report) -> list[str]:
    """Give each idle child the next run until all children have ended; returns error messages. After the first error,
    no further run is started."""
    remaining, running, faults = iter(runs), dict(children), list[str]()
    last_run = dict.fromkeys(children, "none")

    def fault(text: str) -> None:
        faults.append(text)
        for pipe in running:
            send(pipe, STOP)

    while running:
        for pipe in wait(list(running)):
            assert isinstance(pipe, Connection)
            try:
                kind, *content = pipe.recv()
            except (EOFError, OSError):
                child = running.pop(pipe)
                child.join()
                if child.exitcode:
                    fault(f"process {child.pid} {exit_reason(child.exitcode)}; its last run: {last_run[pipe]}")
                continue
            if kind == ASK:
                run = None if faults else next(remaining, None)
                last_run[pipe] = run or last_run[pipe]
                send(pipe, run)
            elif kind == DONE:
                report(*content)
            else:
                fault(*content)
    return faults


def send(pipe: Connection, message: str | None) -> None:
    with contextlib.suppress(OSError):  # a dead child is noticed when its pipe is read
        pipe.send(message)


def exit_reason(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed, perhaps because memory ran out"
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def shut_down(children: dict[Connection, BaseProcess]) -> None:
    """Let all children shut down cleanly; kill those still running after GRACE seconds."""
    deadline = time.monotonic() + GRACE
    for pipe in children:
        pipe.close()
    for child in children.values():
        child.join(max(0.0, deadline - time.monotonic()))
        if child.is_alive():
            child.kill()
            child.join()


def child_main(pipe: Connection, job: Job, threads: int) -> None:
    """Main function of a child: train the runs received on the pipe, then those that other jobs held."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the parent, which shuts down its children
    signal.signal(signal.SIGTERM, exit_on_signal)
    torch.set_num_threads(threads)
    sys.stderr.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]  # a line is one write
    replies, stopped = queue.SimpleQueue[str | None](), threading.Event()
    threading.Thread(target=receive, args=(pipe, replies, stopped), daemon=True).start()

    def next_run() -> str | None:
        pipe.send((ASK,))
        return replies.get()

    current = "before its first run"
    try:
        train = make_trainer(job, lambda run, entry: pipe.send((DONE, run, entry)))

        def work(run: str) -> None:
            nonlocal current
            if stopped.is_set():
                sys.exit()
            current = run
            train(run)

        take_turns(iter(next_run, None), work)
    except Exception as error:
        if not isinstance(error, (ValueError, LookupError, OSError)):  # their messages are one line
            traceback.print_exc()
        with contextlib.suppress(OSError):
            pipe.send((FAULT, f"{current}: {type(error).__name__}: {' '.join(str(error).split())}"))


def receive(pipe: Connection, replies: "queue.SimpleQueue[str | None]", stopped: threading.Event) -> None:
    """Forward the parent's messages; end this process when the parent has ended."""
    try:
        while True:
            message = pipe.recv()
            if message == STOP:
                stopped.set()
            replies.put(None if message == STOP else message)
    except (EOFError, OSError):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def exit_on_signal(number: int, frame: object) -> None:
    """Raise SystemExit, so that the lock is released and half-written files are removed, and ignore further signals,
    which would interrupt that."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)
