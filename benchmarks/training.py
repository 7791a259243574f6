"""Adversarial training as this project does it beside a plain loop as public code writes it, same run, same work.

    python -m benchmarks.training [--device cuda] [--networks resnet18,wrn28_10] [--out benchmarks/training.md]

Work: steps of PGD-10 adversarial training (Linf 8/255, SGD) on images of 3 x 32 x 32, batch 128 (on a CPU 16 for the
wide network, whose step takes minutes). Random images: the arithmetic does not depend on what they show.
Plain: float32, contiguous, a DataLoader of float images that are cropped and flipped one by one, parameters that
collect gradients while the attack runs, the loss read after each step. Ours: `training.data.batches` and
`training.step.train_step`, as a run has them; the same with the setting `channels_last`; and with it and `precision:
bfloat16` where a matrix product in bfloat16 is faster than in float32 (elsewhere it is emulated).
Images per second; forward-equivalents per second (a backward pass counts 1 for the gradient of the images and 2 with
that of the parameters); and the share of the floating-point rate of a large matrix product of that precision on this
machine, where the operations are the forward-equivalents times those of a forward pass (torch.utils.flop_counter). One
thread on a CPU; the fastest of the timed steps.
"""

import argparse
import csv
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from robustgap.training.data.batches import batches
from robustgap.training.data.splits import Split, Splits
from robustgap.training.jobs.run import make_optimizer
from robustgap.training.networks.architectures import build
from robustgap.training.networks.memory_format import channels_last as in_channels_last
from robustgap.training.paths import given_path
from robustgap.training.settings import complete, number
from robustgap.training.step import train_step
from robustgap.workflow.estimate.rates import RATE_COLUMNS

EPS, STEPS, PAD = number("8/255"), 10, 4
WIDE_ON_CPU = 16  # batch size of a wide network there


@dataclass(frozen=True)
class Speed:
    """Of one way to train one network: seconds of the fastest step, its images, and its floating-point operations."""

    network: str
    way: str
    images: int
    seconds: float
    operations: float
    dtype: torch.dtype


class Plain(Dataset):
    """Float images, each padded, cropped and flipped by itself, as transforms of public code do."""

    def __init__(self, images: Tensor, labels: Tensor, seed: int = 0):
        self.images, self.labels, self.generator = images, labels, torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        padded = nn.functional.pad(self.images[row], (PAD, PAD, PAD, PAD))
        top, left, flip = torch.randint(2 * PAD + 1, (3,), generator=self.generator).tolist()
        image = padded[:, top : top + 32, left : left + 32]
        return image.flip(2) if flip % 2 else image, self.labels[row]


def plain_attack(model: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """PGD from x + noise, written as public frameworks do: parameters collect gradients on the way."""
    x_adv = (x + noise).clamp(0, 1)
    for _ in range(STEPS):
        x_adv = x_adv.detach().requires_grad_(True)
        nn.functional.cross_entropy(model(x_adv), y).backward()
        gradient = x_adv.grad
        assert gradient is not None
        x_adv = x_adv.detach() + EPS / 4 * gradient.sign()
        x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
    return x_adv.detach()


def plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """The attack and a step of SGD."""
    model.eval()
    x_adv = plain_attack(model, x, y, torch.empty_like(x).uniform_(-EPS, EPS))
    model.train()
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x_adv), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def plain(model: nn.Module, optimizer: torch.optim.Optimizer, splits: Splits, settings: dict) -> Iterator[int]:
    """Train by the plain loop; yields the images of each step when it is done."""
    device = next(model.parameters()).device
    loader = DataLoader(
        Plain(splits.floats(splits.train.images).cpu(), splits.train.labels.cpu()), settings["batch_size"], shuffle=True
    )
    for x, y in loader:
        plain_step(model, optimizer, x.to(device), y.to(device))
        yield len(y)


def ours(model: nn.Module, optimizer: torch.optim.Optimizer, splits: Splits, settings: dict) -> Iterator[int]:
    """Train as a run does; yields the images of each step when it is done."""
    device = next(model.parameters()).device
    model.train()
    for batch in batches(settings, splits, None, 0, device):
        train_step(model, optimizer, batch, settings, 0)
        yield len(batch.y)


def channels_last(model: nn.Module, optimizer: torch.optim.Optimizer, splits: Splits, settings: dict) -> Iterator[int]:
    """`ours` with the setting channels_last."""
    return ours(in_channels_last(model), optimizer, splits, settings)


def bfloat16(model: nn.Module, optimizer: torch.optim.Optimizer, splits: Splits, settings: dict) -> Iterator[int]:
    """`channels_last` with the setting precision: bfloat16."""
    return channels_last(model, optimizer, splits, {**settings, "precision": "bfloat16"})


WAYS: dict[str, Callable[[nn.Module, torch.optim.Optimizer, Splits, dict], Iterator[int]]] = {
    "plain": plain,
    "ours": ours,
    "ours, channels_last": channels_last,
    "ours, channels_last, bfloat16": bfloat16,
}


def random_images(n: int, device: torch.device) -> Splits:
    """A data set of n random images of 3 x 32 x 32 in 10 classes, on the device."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (n,), generator=generator)
    split = Split(images.to(device), labels.to(device), torch.arange(n, device=device))
    return Splits("random", split, split, split, None, 255, 10)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def speed(network: str, way: str, settings: dict, device: torch.device, steps: int) -> Speed:
    """The fastest of `steps` steps after one that sets things up."""
    splits = random_images((steps + 1) * settings["batch_size"], device)
    torch.manual_seed(0)
    model = build(settings, splits).to(device)
    run = WAYS[way](model, make_optimizer(model, settings), splits, settings)
    next(run)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(splits.floats(splits.train.images[:1]))
    taken = []
    for _ in range(steps):
        synchronise(device)
        began = time.perf_counter()
        images = next(run)
        synchronise(device)
        taken.append(time.perf_counter() - began)
    operations = passes(way) * images * counter.get_total_flops()
    dtype = torch.bfloat16 if way.endswith("bfloat16") else torch.float32
    return Speed(network, way, images, min(taken), operations, dtype)


def passes(way: str) -> int:
    """Forward-equivalents of a step for each image."""
    return STEPS * (3 if way == "plain" else 2) + 3


def peak(device: torch.device, dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """Floating-point operations per second of the fastest of some products of square matrices."""
    size = size if device.type == "cpu" else 4 * size
    # as in convolutions, where a GPU may round float32 to TF32 unless it is told not to
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    a = torch.randn(size, size, device=device).to(dtype)
    taken = []
    for _ in range(repeats):
        synchronise(device)
        began = time.perf_counter()
        a @ a
        synchronise(device)
        taken.append(time.perf_counter() - began)
    return 2 * size**3 / min(taken)


def ways(device: torch.device) -> tuple[list[str], str]:
    """The ways that are measured on this device, and a sentence about what is left out ('' where nothing is)."""
    full, half = (peak(device, dtype, size=256) for dtype in (torch.float32, torch.bfloat16))
    if half > full:
        return list(WAYS), ""
    why = f"Not measured: bfloat16, in which a matrix product is {full / half:.0f} times slower here than in float32."
    return [way for way in WAYS if not way.endswith("bfloat16")], why


def report(device: torch.device, found: list[Speed], top: dict[torch.dtype, float], left_out: str) -> str:
    """The table as Markdown."""
    rates = " and ".join(f"{rate / 1e9:,.0f} (in {str(dtype).removeprefix('torch.')})" for dtype, rate in top.items())
    lines = [
        "# How fast adversarial training is",
        "",
        f"PGD-10 adversarial training, images of 3 x 32 x 32; {machine(device)}, torch {torch.__version__}. A large "
        f"matrix product reaches {rates} GFLOP/s. Made by `python -m benchmarks.training`, which says how.",
        *([left_out] if left_out else []),
        *(["No GPU was at hand, so nothing is known of one."] if device.type == "cpu" else []),
        "",
        "| network | way | batch | seconds a step | images/s | forward-equivalents/s | share of peak | times plain |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    base = {one.network: one for one in found if one.way == "plain"}
    for one in found:
        rate = one.images / one.seconds
        gain = base[one.network].seconds / one.seconds
        lines.append(
            f"| {one.network} | {one.way} | {one.images} | {one.seconds:.2f} | {rate:,.2f} "
            f"| {rate * passes(one.way):,.1f} | {one.operations / one.seconds / top[one.dtype]:.0%} | {gain:.2f} |"
        )
    return "\n".join([*lines, ""])


def machine(device: torch.device) -> str:
    """What the device is called in the tables."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU, one thread"


def add_rates(path: Path, device: str, found: list[Speed]) -> None:
    """Add our own ways to the table that `workflow.estimate.rates` reads; the plain loop is nobody's setting."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(RATE_COLUMNS)
        for one in [one for one in found if one.way != "plain"]:
            precision = str(one.dtype).removeprefix("torch.")
            rate = f"{one.images / one.seconds:.5g}"
            writer.writerow([device, one.network, precision, "channels_last" in one.way, rate])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="How fast adversarial training is.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", default="resnet18,wrn28_10", help="architectures, comma-separated")
    parser.add_argument("--width", type=int, default=0, help="channels of the first layer (default: the network's own)")
    parser.add_argument("--batch-size", type=int, help="images of a step (default: 128; 16 for wide networks on a CPU)")
    parser.add_argument("--steps", type=int, help="timed steps (default: 2 on a CPU, else 20)")
    parser.add_argument("--out", type=given_path, help="write the table there as well")
    parser.add_argument(
        "--rates", type=given_path, help="add the images per second to this table, for `workflow.grid --rates`"
    )
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device = torch.device(given.device)
    measured, left_out = ways(device)
    found = []
    for network in given.networks.split(","):
        size = given.batch_size or (WIDE_ON_CPU if device.type == "cpu" and network.startswith("wrn") else 128)
        settings = complete({"architecture": network, "width": given.width, "batch_size": size})
        for way in measured:
            found.append(speed(network, way, settings, device, given.steps or (2 if device.type == "cpu" else 20)))
            print(found[-1], file=sys.stderr, flush=True)
    text = report(device, found, {dtype: peak(device, dtype) for dtype in {one.dtype for one in found}}, left_out)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    if given.rates:
        add_rates(given.rates, machine(device), found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
