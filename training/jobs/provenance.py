"""Records what computed a result (CPU, instruction set, threads, versions, commit), and checks whether that is
reproducible.

CPUs with other instructions round the same sums differently, and a few epochs of training turn that into a different
network. A study with `reproducible: true` restricts every job to AVX2 instructions and one thread.
"""

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

from robustgap.training.jobs.device import pick_device
from robustgap.training.settings import REPRODUCIBLE, Record, StudyFile

ROOT = Path(__file__).resolve().parents[2]
RECORDED_PACKAGES = ("torch", "numpy", "safetensors")


@cache
def cpu_name() -> str:
    """CPU model, as reported by the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


@cache
def commit() -> str:
    """Commit of this code, with '-dirty' if its files have changed since; '' outside a git checkout."""
    if not (ROOT / ".git").exists():  # for instance installed within somebody else's checkout
        return ""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def unpinned() -> str:
    """What deviates in this process from the arithmetic of a reproducible study; '' if nothing does."""
    values = {name: os.environ.get(name, "not set") for name in REPRODUCIBLE}
    if deviating := [name for name, value in REPRODUCIBLE.items() if values[name].lower() != value.lower()]:
        return f"found {', '.join(f'{name} {values[name]}' for name in deviating)}"
    if not torch.cpu.get_capabilities().get("avx2"):
        return f"found a CPU without AVX2 ({cpu_name()})"
    if (capability := torch.backends.cpu.get_cpu_capability()) != "AVX2":  # torch started before the variable was set
        return f"found kernels for {capability}"
    return "" if torch.get_num_threads() == 1 else f"found {torch.get_num_threads()} threads"


def require_reproducible(study: StudyFile) -> None:
    """Raise ValueError if the study must be reproducible and this process is not."""
    if study.get("reproducible") and (deviation := unpinned()):
        wanted = " ".join(f"{name}={value}" for name, value in REPRODUCIBLE.items())
        raise ValueError(
            f"reproducible: {deviation}, wanted {wanted} OMP_NUM_THREADS=1 before torch starts, on a CPU with AVX2"
        )


def study_device(study: StudyFile, name: str = "auto") -> torch.device:
    """Device for a job of the study: the one named, or as `pick_device` chooses for 'auto', but the CPU for a
    reproducible study. Raises ValueError if the study is reproducible and another device is named, or this process is
    not reproducible."""
    if not study.get("reproducible"):
        return pick_device(name)
    if name not in ("auto", "cpu"):
        raise ValueError(
            f"--device: found {name} with reproducible: true, wanted cpu: only its results are reproducible"
        )
    require_reproducible(study)
    return torch.device("cpu")


def made_by(device: torch.device) -> Record:
    """What computes on `device` in this process, to be stored with its results."""
    on_gpu = device.type == "cuda"
    return {
        "cpu": cpu_name(),
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "reproducible": not on_gpu and not unpinned(),
        "threads": torch.get_num_threads(),
        "packages": {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
        "commit": commit(),
    }
