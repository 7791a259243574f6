"""Standard AutoAttack as an outcome, beside the library's own evaluation of the same images.

    python -m benchmarks.autoattack [--device cuda] [--networks mlp,cnn] [--images 40] [--out benchmarks/autoattack.md]

Networks: adversarially trained on digits (PGD-10, Linf 0.1). Library: `run_standard_evaluation` of pyautoattack, with
its checks. Ours: the outcome attack `autoattack`, which saves its state for every component and batch, and the warning
signs of the library's checks, which it has by itself. Both take turns in this process, with the same seed and batch
size, and must give the same images, or the program ends with an error. Seconds: of the CPU on a CPU, else wall time;
the fastest of the repeats. The bar: ours takes at most 1.2 times as long.
"""

import argparse
import importlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.measures import clock
from robustgap.training.checkpoint import load_weights
from robustgap.training.data.datasets import load
from robustgap.training.jobs.run import train_run
from robustgap.training.modes import frozen, full_precision
from robustgap.training.networks.architectures import build
from robustgap.training.outcome_attacks import SEED, Part
from robustgap.training.outcome_attacks.autoattack import BATCH, autoattack, signs
from robustgap.training.settings import complete

EPS, BAR = 0.1, 1.2


class Compared(NamedTuple):
    """Of one network: accuracy under attack, seconds of the library, of ours, and of our components."""

    accuracy: float
    library: float
    ours: float
    components: dict[str, float]


def trained(network: str, epochs: int, device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
    """A network and the test images and labels of digits."""
    splits = load("digits")
    given = {"data": "digits", "eps": str(EPS), "defense": "AT", "architecture": network, "epochs": epochs}
    settings = complete({**given, "batch_size": 32, "lr": 0.02, "augmentation": "none", "schedule": "cosine"})
    with tempfile.TemporaryDirectory() as folder:
        train_run(settings, splits, None, Path(folder), device)
        model = build(settings, splits)
        model.load_state_dict(load_weights(Path(folder) / "last.safetensors"))
    return model.eval().to(device), splits.floats(splits.test.images).to(device), splits.test.labels.to(device)


def ours(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Part]:
    index = torch.arange(len(y), device=y.device)
    signs(model, x, y, index, EPS, "Linf")
    with tempfile.TemporaryDirectory() as folder:
        yield from autoattack(model, x, y, index, EPS, "Linf", state=Path(folder))


def library(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    attack = importlib.import_module("pyautoattack").AutoAttack(model, eps=EPS, seed=SEED, device=x.device)
    attack.verbose = False
    x_adv: Tensor = attack.run_standard_evaluation(x, y, batch_size=int(BATCH))[0]
    return x_adv


def compare(model: nn.Module, x: Tensor, y: Tensor, repeats: int) -> Compared:
    """Raises ArithmeticError where the two differ."""
    device, times = x.device, []
    with frozen(model), full_precision():
        for _ in range(repeats):
            began = clock(device)
            wanted = library(model, x, y)
            between = clock(device)
            parts = list(ours(model, x, y))
            times.append((between - began, clock(device) - between))
            if not torch.equal(parts[-1].x_adv, wanted):
                raise ArithmeticError("autoattack: found other images than the library's own, wanted the same")
        right = (model(wanted).argmax(1) == y).double().mean()
    components = {part.value or "square": part.seconds or 0.0 for part in parts}
    return Compared(float(right), *map(min, zip(*times, strict=True)), components)


def report(found: dict[str, Compared], images: int, device: torch.device, load_average: float) -> str:
    """The table as Markdown."""
    gpu = torch.cuda.get_device_name(device) if device.type != "cpu" else ""
    machine = f"{gpu or platform.machine() + ' CPU'}, {os.cpu_count()} cores, torch {torch.__version__}, one thread"
    lines = [
        "# Standard AutoAttack beside the library's own evaluation",
        "",
        f"{images} test images of digits, Linf {EPS}, networks of adversarial training; {machine}; load average "
        f"{load_average:.1f} before it began. Made by `python -m benchmarks.autoattack`, which says how. Both give the "
        f"same images. The bar is {BAR} times the library's time. Seconds of components: wall time of the last repeat.",
        "",
        "| network | accuracy | library, s | ours, s | ratio | apgd_ce, s | apgd_t, s | fab_t, s | square, s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for network, one in found.items():
        cells = [one.library, one.ours, one.ours / one.library, *one.components.values()]
        lines.append(f"| {network} | {one.accuracy:.2f} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Standard AutoAttack beside the library's own evaluation.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", default="mlp,cnn")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the table there as well")
    given = parser.parse_args(arguments)
    device, load_average, threads = torch.device(given.device), os.getloadavg()[0], torch.get_num_threads()
    found = {}
    try:
        torch.set_num_threads(1)
        for network in given.networks.split(","):
            model, x, y = trained(network, given.epochs, device)
            found[network] = compare(model, x[: given.images], y[: given.images], given.repeats)
            print(network, found[network], file=sys.stderr, flush=True)
    finally:
        torch.set_num_threads(threads)
    text = report(found, given.images, device, load_average)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
