"""What every measure costs alone, and what all of them cost together, on one model; both must give the same values.

    python -m benchmarks.measures [--device cuda] [--out benchmarks/measures.md]

Model: ResNet-18 (CIFAR form), briefly trained on digits32, images 3 x 32 x 32; width 16 and 128 images on a CPU (one
thread), full width and 1,024 images (with repeats, under other identities) elsewhere.
Alone: `evaluate(model, images, labels, NAME)`, properly batched; it makes its own adversarial examples where it needs
some. Together: `evaluate(model, images, labels, "all")`. Same n, steps, draws and dtype. Both sides are measured in
this process, one after the other, and their values must agree within 3 combined standard errors (relative 1e-3 where a
measure gives none). Seconds are CPU seconds on a CPU, where a busy machine does not change them, else wall time.
Passes: images forward through the network, divided by their number; a backward pass counts as two. Peak: memory above
what there was before. The bar: together at least twice as fast as the sum of all alone.
"""

import argparse
import ctypes
import gc
import math
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from robustgap.measures import evaluate
from robustgap.measures._code import names
from robustgap.measures._images import attack, prepare
from robustgap.training.checkpoint import load_weights, read_log
from robustgap.training.data.datasets import load
from robustgap.training.jobs.run import train_run
from robustgap.training.networks.architectures import build
from robustgap.training.settings import complete, number

EPS = "8/255"
BAR = 2.0


@dataclass(frozen=True)
class Size:
    """What is measured: full size for the record, small for a look or a test."""

    architecture: str
    data: str
    width: int
    images: int
    epochs: int
    batch_size: int


FULL = {"cpu": Size("resnet18", "digits32", 16, 128, 8, 128), "cuda": Size("resnet18", "digits32", 64, 1024, 30, 256)}
QUICK = Size("cnn", "digits", 4, 24, 2, 16)


@dataclass(frozen=True)
class Case:
    """One model, its images, and what `evaluate` is given besides."""

    model: nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    options: dict


def make_case(size: Size, device: torch.device) -> Case:
    """A trained model with its initial weights and log, and training images."""
    splits = load(size.data)
    given = {"architecture": size.architecture, "width": size.width, "epochs": size.epochs, "eps": EPS}
    settings = complete({"data": size.data, "defense": "Standard", "batch_size": 32, **given})
    with tempfile.TemporaryDirectory() as folder:
        train_run(settings, splits, None, Path(folder), device)
        model = build(settings, splits)
        model.load_state_dict(load_weights(Path(folder) / "last.safetensors"))
        initial, log = load_weights(Path(folder) / "init.safetensors"), read_log(Path(folder) / "log.csv")
    rows = torch.arange(size.images) % len(splits.train)
    model = model.eval().to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    options = {"eps": EPS, "batch_size": size.batch_size, "initial": initial, "log": log}
    return Case(model, splits.floats(splits.train.images[rows]), splits.train.labels[rows], options)


@dataclass(frozen=True)
class Cost:
    """Seconds, passes of each image, peak memory in MiB (NaN where it cannot be told), and what was computed."""

    seconds: float
    passes: float
    peak: float
    table: pd.DataFrame


def clock(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def status(field: str) -> float:
    """A line of /proc/self/status, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return math.nan


def forget(device: torch.device) -> float:
    """Give free memory back, start a new peak, and say how much is in use; NaN where peaks cannot be reset."""
    gc.collect()
    if device.type != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return math.nan
    return status("VmRSS")


def peak(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type != "cpu" else status("VmHWM")


def cost(case: Case, device: torch.device, work: Callable[[], pd.DataFrame]) -> Cost:
    """What `work` takes. Passes are counted at the model, so that making adversarial examples counts as well."""
    count = [0]

    def hook(module: nn.Module, inputs: tuple) -> None:
        count[0] += len(inputs[0]) * (3 if torch.is_grad_enabled() else 1)

    handle = case.model.register_forward_pre_hook(hook)
    before, start = forget(device), clock(device)
    table = work()
    seconds = clock(device) - start
    handle.remove()
    return Cost(seconds, count[0] / len(case.images), max(peak(device) - before, 0.0), table)


def measure(case: Case, device: torch.device, asked: list[str]) -> tuple[dict[str, Cost], Cost, float]:
    """({measure: its cost alone}, the cost together, seconds of one set of adversarial examples)."""

    def run(names: str | list[str]) -> Callable[[], pd.DataFrame]:
        return lambda: evaluate(case.model, case.images, case.labels, names, **case.options)

    few = Case(case.model, case.images[:2], case.labels[:2], case.options)
    evaluate(few.model, few.images, few.labels, asked, **few.options)  # first calls set things up
    alone = {}
    for place, name in enumerate(asked, start=1):
        alone[name] = cost(case, device, run(name))
        print(f"{place}/{len(asked)} {name}: {alone[name].seconds:.2f} s", file=sys.stderr, flush=True)
    together = cost(case, device, run(asked))
    options = {"eps": number(EPS), "batch_size": case.options["batch_size"]}
    data = prepare(case.model, case.images, case.labels, **options)
    start = clock(device)
    attack(case.model, data)
    return alone, together, clock(device) - start


def disagreements(alone: dict[str, Cost], together: Cost) -> list[str]:
    """Values that differ by more than 3 combined standard errors (relative 1e-3 without one), or are missing once."""
    found, shared = [], together.table.set_index(["measure", "variant"])
    for one in alone.values():
        for row in one.table.itertuples():
            other = shared.loc[(row.measure, row.variant)]
            room = 3 * math.hypot(row.se, other["se"])
            room = abs(row.value) * 1e-3 if math.isnan(room) else room
            both = math.isnan(row.value) and math.isnan(other["value"])
            if not both and not abs(row.value - other["value"]) <= room:
                found.append(f"{row.measure} ({row.variant}): {row.value:.6g} alone, {other['value']:.6g} together")
    return found


def report(size: Size, device: torch.device, alone: dict[str, Cost], together: Cost, examples: float) -> str:
    """The table as Markdown."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU, one thread"
    marginal = together.table.groupby("measure")[["seconds", "forwards"]].sum()
    lines = [
        "# What measures cost, alone and together",
        "",
        f"{size.architecture} of width {size.width}, {size.images} images of {size.data}, float32, "
        f"batches of {size.batch_size}; {machine}, torch {torch.__version__}. Made by `python -m benchmarks.measures`, "
        "which says how.",
        "",
        "| measure | seconds alone | passes alone | peak MiB alone | wall seconds together | passes together |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, one in alone.items():
        there = marginal.loc[name]
        lines.append(
            f"| {name} | {one.seconds:.2f} | {one.passes:.0f} | {one.peak:.0f} | {there['seconds']:.2f} "
            f"| {there['forwards'] / size.images:.0f} |"
        )
    seconds, passes = (sum(getattr(one, what) for one in alone.values()) for what in ("seconds", "passes"))
    attacked = sum("adversarial" in set(one.table["variant"]) for one in alone.values())
    given = (seconds - attacked * examples) / (together.seconds - examples)
    largest = max(one.peak for one in alone.values())
    lines += [
        f"| **sum of all alone** | **{seconds:.1f}** | **{passes:.0f}** | {largest:.0f} (largest) | | |",
        f"| **all together** | **{together.seconds:.1f}** | **{together.passes:.0f}** | {together.peak:.0f} | | |",
        "",
        f"Together {seconds / together.seconds:.2f} times as fast as the sum of all {len(alone)} alone (the bar: "
        f"{BAR:g}); {passes / together.passes:.2f} times fewer passes. One set of adversarial examples takes "
        f"{examples:.2f} s; with the examples at hand on both sides the factor is {given:.2f}.",
        "",
        "All values agree within 3 combined standard errors.",
        "",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What measures cost, alone and together.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="a tiny network and few images: the numbers mean nothing")
    parser.add_argument("--names", default="all", help="measures, comma-separated (default: all)")
    parser.add_argument("--out", type=Path, help="write the table there as well")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device = torch.device(given.device)
    size = QUICK if given.quick else FULL[device.type]
    asked = names() if given.names == "all" else given.names.split(",")
    alone, together, examples = measure(make_case(size, device), device, asked)
    if wrong := disagreements(alone, together):
        print("\n".join(["error: values differ:", *wrong]), file=sys.stderr)
        return 1
    text = report(size, device, alone, together, examples)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
