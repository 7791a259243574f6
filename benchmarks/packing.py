"""How to train many small networks on one device: one after another, in several processes, or stacked in one.

    python -m benchmarks.packing [--device cuda] [--processes 2,4] [--stacked 4,16] [--out benchmarks/packing.md]

Work: steps of PGD-10 adversarial training (Linf 0.1, SGD) on random images of 1 x 8 x 8 that lie on the device, no
augmentation. A chunk is the same number of training steps, summed over runs, for each way:
one process    `training.step.train_step`, one run after another, with one thread or, on a CPU, two
k processes    a run each, one thread each, as `train_processes: k` has them; from the signal until the last is ready
k stacked      k runs in one process and thread by torch.func (benchmarks/stacked.py)
The ways take turns within one run of this program; the fastest chunk of each counts. Before anything is timed,
stacked runs are compared with separate ones in float64, and the program ends where weights or statistics differ.
"""

import argparse
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.stacked import CHECKED, Stacked, compare
from benchmarks.training import synchronise
from robustgap.training.data.batches import TrainingBatch, batches
from robustgap.training.data.splits import Split, Splits
from robustgap.training.jobs.run import make_optimizer
from robustgap.training.networks.architectures import build
from robustgap.training.settings import complete
from robustgap.training.step import train_step

ENOUGH = 12.0  # seconds of chunks of one way, after which it is not repeated
WIDTHS = {"mlp": 256, "cnn": 0}  # 0: the network's own
CPU_NOTE = (
    "Not measured on a GPU (`--device cuda`): there, other ways may win. Other work on the machine, which the load "
    "average tells of, takes most from the ways that need several cores; two threads of one process wait for each "
    "other. Stacked runs must agree in all settings but the seed. A factorial grid has as many of those as it has "
    "seeds, and 4 gain nothing: so runs are not stacked, and `train_processes` is the setting."
)

Chunk = Callable[[int], None]  # train so many steps, summed over runs, and wait for the device


class Case(NamedTuple):
    network: str
    batch_size: int
    device: str

    def settings(self, seed: int) -> dict:
        given = {"data": "digits", "eps": "1/10", "defense": "AT", "inner_steps": 10, "augmentation": "none"}
        size = {"width": WIDTHS[self.network], "batch_size": self.batch_size}
        return complete({**given, "architecture": self.network, **size, "seed": seed})

    def run(self, seed: int, dtype: torch.dtype = torch.float32) -> tuple[dict, nn.Module, TrainingBatch]:
        """Settings, network and first batch of a run."""
        settings, device, n = self.settings(seed), torch.device(self.device), 2 * self.batch_size
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=generator).to(device)
        labels = torch.randint(10, (n,), generator=generator).to(device)
        split = Split(images, labels, torch.arange(n, device=device))
        splits = Splits("random", split, split, split, None, 255, 10)
        batch = next(batches(settings, splits, None, 0, device))
        model = build(settings, splits).to(device, dtype).train()
        return settings, model, TrainingBatch(batch.x.to(dtype), batch.y, batch.index)


def separate(case: Case, threads: int = 1) -> Chunk:
    """A run as `training` has it."""
    settings, model, batch = case.run(0)
    optimizer = make_optimizer(model, settings)

    def chunk(steps: int) -> None:
        torch.set_num_threads(threads)
        for step in range(steps):
            train_step(model, optimizer, batch, settings, step)
        synchronise(torch.device(case.device))

    return chunk


def stacked(case: Case, runs: int) -> Chunk:
    settings, models, own = zip(*(case.run(seed) for seed in range(runs)), strict=True)
    together = Stacked(list(models), list(settings))

    def chunk(steps: int) -> None:
        torch.set_num_threads(1)
        for step in range(steps // runs):
            together.step(list(own), step)
        synchronise(torch.device(case.device))

    return chunk


def serve(pipe: Connection, case: Case) -> None:
    """A child: train as many steps as it is told, say so, and end with the pipe."""
    chunk = separate(case)
    try:
        while True:
            chunk(pipe.recv())
            pipe.send(None)
    except EOFError:
        pass


def in_processes(case: Case, count: int, until: ExitStack) -> Chunk:
    """`count` children, which end when `until` is left."""
    context, pipes = multiprocessing.get_context("spawn"), list[Connection]()
    for _ in range(count):
        here, there = context.Pipe()
        child = context.Process(target=serve, args=(there, case), daemon=True)
        child.start()
        there.close()
        until.callback(child.join)
        until.callback(here.close)
        pipes.append(here)

    def chunk(steps: int) -> None:
        for pipe in pipes:
            pipe.send(steps // count)
        for pipe in pipes:
            pipe.recv()

    return chunk


def rates(case: Case, processes: list[int], stacks: list[int], steps: int, repeats: int) -> dict[str, float]:
    """Training steps per second, summed over runs, of each way."""
    with ExitStack() as until:
        ways = {"one process, one thread": separate(case)}
        if case.device == "cpu":
            ways["one process, two threads"] = separate(case, threads=2)
        ways |= {f"{count} processes": in_processes(case, count, until) for count in processes}
        ways |= {f"{runs} stacked": stacked(case, runs) for runs in stacks}
        for way in ways.values():
            way(max([*processes, *stacks]))  # sets things up
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                if sum(taken[name]) < ENOUGH:
                    began = time.perf_counter()
                    way(steps)
                    taken[name].append(time.perf_counter() - began)
    return {name: steps / min(chunks) for name, chunks in taken.items()}


def report(device: str, found: dict[Case, dict[str, float]], worst: float, load: float) -> str:
    """The table as Markdown."""
    gpu = torch.cuda.get_device_name(device) if device != "cpu" else ""
    machine = f"{gpu or platform.machine() + ' CPU'}, {os.cpu_count()} cores, torch {torch.__version__}"
    lines = [
        "# Many small networks on one device",
        "",
        f"PGD-10 adversarial training, images of 1 x 8 x 8: training steps per second, summed over the runs that train "
        f"at once; {machine}; load average {load:.1f} before it began. Made by `python -m benchmarks.packing`, which "
        "says how. Stacked runs end with the weights of separate ones (relative difference after "
        f"{CHECKED} steps in float64: at most {worst:.0e}).",
        "",
        *([] if gpu else [CPU_NOTE, ""]),
        "| network | batch | way | steps/s | times one process |",
        "|---|--:|---|--:|--:|",
    ]
    for case, rows in found.items():
        one = rows["one process, one thread"]
        lines += [
            f"| {case.network} | {case.batch_size} | {way} | {rate:,.1f} | {rate / one:.2f} |"
            for way, rate in rows.items()
        ]
    return "\n".join([*lines, ""])


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="How to train many small networks on one device.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", default="mlp,cnn", help="of mlp and cnn, comma-separated")
    parser.add_argument("--batch-sizes", type=numbers, default=[32, 128])
    parser.add_argument("--processes", type=numbers, default=[2])
    parser.add_argument("--stacked", type=numbers, default=[4, 16])
    parser.add_argument("--steps", type=int, default=48, help="of a chunk: a multiple of all numbers of runs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the table there as well")
    given = parser.parse_args(arguments)
    if uneven := [count for count in [*given.processes, *given.stacked] if given.steps % count]:
        parser.error(f"--steps: found {given.steps}, wanted a multiple of {uneven[0]}")
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    found, worst = dict[Case, dict[str, float]](), 0.0
    try:
        for network in given.networks.split(","):
            for size in given.batch_sizes:
                case = Case(network, size, given.device)
                worst = max(worst, compare([case.run(seed, torch.float64) for seed in range(min(given.stacked))]))
                found[case] = rates(case, given.processes, given.stacked, given.steps, given.repeats)
                print(case, found[case], file=sys.stderr, flush=True)
    finally:
        torch.set_num_threads(threads)
    text = report(given.device, found, worst, load)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
