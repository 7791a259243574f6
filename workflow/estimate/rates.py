"""Estimates a study's hours on devices with measured training speed. Imports no torch.

The table has a line for each device, network and way of training: images per second of PGD-10 adversarial training on
32 x 32 images, as written by `python -m benchmarks.training --rates FILE`. The shipped rates.csv lists no device: only
CPUs have been available, and their times are in training/facts.py.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from robustgap.training.facts import NETWORK_FACTS
from robustgap.training.settings import Plan, complete
from robustgap.workflow.estimate import hours
from robustgap.workflow.study_faults import StudyError

RATES = Path(__file__).parent / "rates.csv"
RATE_COLUMNS = ("device", "architecture", "precision", "channels_last", "images_per_second")
SCALED = {name for name, network in NETWORK_FACTS.items() if network.passes is None}


class Way(NamedTuple):
    """The options of training that determine its speed."""

    architecture: str
    precision: str
    channels_last: bool


class DeviceHours(NamedTuple):
    """Hours on one device by stage; networks in `scaled` were not measured there, those in `unknown` are not
    counted."""

    device: str
    stages: dict[str, float]
    scaled: list[str]
    unknown: list[str]


def read_rates(path: Path) -> dict[str, dict[Way, float]]:
    """Images per second by device and way. Raises StudyError, naming file and line, for a malformed table."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            lines, columns = list(reader), list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if missing := [column for column in RATE_COLUMNS if column not in columns]:
        raise StudyError(f"{path}: wanted column {', '.join(missing)}; found columns: {', '.join(columns) or 'none'}")
    rates_by_device: dict[str, dict[Way, float]] = {}
    for number, line in enumerate(lines, start=2):
        if missing := [column for column in RATE_COLUMNS if not line.get(column)]:
            raise StudyError(f"{path}: line {number}: found no {missing[0]}, wanted {', '.join(RATE_COLUMNS)}")
        try:
            rate = float(line["images_per_second"])
        except ValueError:
            rate = 0.0
        if not 0 < rate < float("inf"):
            text = line["images_per_second"]
            raise StudyError(f"{path}: line {number}: images_per_second: found {text!r}, wanted a number > 0")
        way = Way(line["architecture"], line["precision"], line["channels_last"] == "True")
        rates_by_device.setdefault(line["device"], {})[way] = rate
    return rates_by_device


def seconds_on(rates: dict[Way, float], way: Way) -> Callable[[str, str, float, int, float], float] | None:
    """Like `hours.cpu_seconds`, for a device; None if neither this network nor one it can be scaled from was measured
    that way."""
    passes_per_step = hours.step_passes(complete({"defense": "AT", "inner_steps": 10}))
    rate, work = rates.get(way), 1.0
    if rate is None and way.architecture in SCALED:
        rate = rates.get(way._replace(architecture=hours.REFERENCE))
        work = NETWORK_FACTS[way.architecture].resnet18s.image
    if rate is None:
        return None
    seconds_per_image = work / (rate * passes_per_step)

    def seconds(data: str, architecture: str, images: float, batch: int, passes: float) -> float:
        return passes * images * hours.pixel_ratio(data)[1] * seconds_per_image

    return seconds


def device_hours(plan: Plan, device: str, rates: dict[Way, float]) -> DeviceHours:
    """Hours of a plan on one device, from its rates; runs of unknown speed are left out, and their networks listed."""
    total, scaled, unknown = dict.fromkeys(("training", "outcomes", "measures"), 0.0), set(), set()
    for run in plan["runs"].values():
        settings = run["settings"]
        way = Way(settings["architecture"], settings["precision"], settings["channels_last"])
        seconds = seconds_on(rates, way)
        if seconds is None:
            unknown.add(way.architecture)
            continue
        if way not in rates:
            scaled.add(way.architecture)
        # evaluated and measured in float32
        exact = seconds_on(rates, way._replace(precision="float32")) or seconds
        for stage, amount in hours.run_seconds(plan, settings, seconds, exact).items():
            total[stage] += amount / 3600
    return DeviceHours(device, total, sorted(scaled), sorted(unknown))


def summary_lines(plan: Plan, path: Path) -> list[tuple[str, str]]:
    """Lines for the plan's summary: the hours on each device of the table; none for small networks, which need no GPU,
    unless they were measured."""
    lines = []
    for device, rates in read_rates(path).items():
        estimate = device_hours(plan, device, rates)
        total = sum(estimate.stages.values())
        stages = ", ".join(f"{stage} {hours.clock(amount)}" for stage, amount in estimate.stages.items())
        text = f"{hours.clock(total)} ({stages})"
        if estimate.scaled:
            text += f"; {', '.join(estimate.scaled)} estimated from the multiply-adds, not measured"
        if estimate.unknown:
            text += f"; {', '.join(estimate.unknown)} not counted: not measured so"
        if total:
            lines.append((f"one {device}", text))
    if not lines and any(
        run["settings"]["architecture"] in {hours.REFERENCE, *SCALED} for run in plan["runs"].values()
    ):
        lines = [
            ("GPU-hours", "unknown: measure your GPU by `python -m benchmarks.training --device cuda --rates FILE`")
        ]
    return lines
