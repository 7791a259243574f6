"""How long Snakemake takes to plan a large study: fresh, with five seeds, finished, and with one measure more.

    python -m benchmarks.dag [--study workflow/config/cifar10.yaml] [--measures 45] [--out benchmarks/dag.md]

Each line is one `snakemake --dry-run` of the study in an empty folder, in a process of its own: wall seconds, peak
resident memory, and what it would run. For the finished study every output is an empty file, and `snakemake --touch`
records them as made by this code: no job is run. The bars: 30 s, five seeds 180 s; 500 MB.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from robustgap.measures._code import names

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 5
MEMORY = 500.0  # MB
SECONDS = {"fresh, 5 seeds": 180.0}  # 30 for all others


@dataclass(frozen=True)
class Planned:
    """One dry run: its name, wall seconds, peak memory in MB, and the number of jobs that it would run."""

    name: str
    seconds: float
    memory: float
    jobs: int


def snakemake(folder: Path, study: Path, *options: str) -> str:
    """What one call of Snakemake printed. Raises RuntimeError, with its last words, where it fails."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--configfile", str(study), "--cores", "2", *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(ran.stdout + ran.stderr)[-2000:]}")
    return ran.stdout + ran.stderr


def dry_run(name: str, folder: Path, study: Path) -> Planned:
    """A dry run, timed in a process of its own, because the peak memory of children is that of the largest."""
    reader, writer = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(writer, "w", encoding="utf-8") as out:
                text = snakemake(folder, study, "--dry-run", "--quiet", "rules")
                total = [line.split()[1] for line in text.splitlines() if line.startswith("total ")]
                memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
                out.write(f"{memory} {total[0] if total else 0}")
        except RuntimeError as error:
            print(error, file=sys.stderr)
        finally:
            os._exit(0)  # whatever happened: the rest is the parent's
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as told:
        answer = told.read().split()
    os.waitpid(child, 0)
    if not answer:
        raise RuntimeError(f"{name}: the dry run failed")
    return Planned(name, time.perf_counter() - began, float(answer[0]), int(answer[1]))


def finish(folder: Path, study: Path) -> None:
    """Leave the folder as a finished study does, as far as Snakemake can see."""
    listed = [line.split("\t") for line in snakemake(folder, study, "--summary").splitlines()]
    head = next(place for place, row in enumerate(listed) if row[0] == "output_file")
    for row in listed[head + 1 :]:
        path = folder / row[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.touch()
        else:  # the folder of the tables
            path.mkdir(exist_ok=True)
    snakemake(folder, study, "--touch", "--quiet", "rules")


def study_file(base: Path, folder: Path, name: str, **changes: object) -> Path:
    """The study with some keys changed, as a file."""
    path = folder / f"{name}.yaml"
    study = {**yaml.safe_load(base.read_text(encoding="utf-8")), **changes}
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def measure(base: Path, count: int, folder: Path) -> list[Planned]:
    """All dry runs, each in a folder of its own where it has to be fresh."""
    asked = names()[:count]
    one = study_file(base, folder, "one", measures=asked)
    many = study_file(base, folder, "many", measures=asked, seeds=list(range(SEEDS)))
    more = study_file(base, folder, "more", measures=names()[: count + 1])
    found = []
    for name, place, study, before in (
        ("fresh, one seed", "one", one, None),
        (f"fresh, {SEEDS} seeds", "many", many, None),
        ("finished, one seed", "one", one, finish),
        ("finished, and one measure more", "one", more, None),
    ):
        work = folder / place
        work.mkdir(exist_ok=True)
        if before:
            before(work, study)
        found.append(dry_run(name, work, study))
        print(found[-1], file=sys.stderr, flush=True)
    return found


def verdict(one: Planned) -> str:
    """The bars of a line, and whether it misses one."""
    seconds = SECONDS.get(one.name, 30.0)
    return f"{seconds:.0f} s, {MEMORY:.0f} MB" + ", missed" * (one.seconds > seconds or one.memory > MEMORY)


def report(base: Path, count: int, found: list[Planned]) -> str:
    """The table as Markdown."""
    lines = [
        "# How long a large study takes to plan",
        "",
        f"`snakemake --dry-run` of {base.name} with {count} measures, in one process. Made by `python -m "
        "benchmarks.dag`, which says how.",
        "",
        "| study | wall seconds | peak MB | jobs planned | bar |",
        "|---|--:|--:|--:|---|",
        *(f"| {one.name} | {one.seconds:.1f} | {one.memory:.0f} | {one.jobs:,} | {verdict(one)} |" for one in found),
        "",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="How long Snakemake takes to plan a large study.")
    parser.add_argument("--study", type=Path, default=ROOT / "workflow" / "config" / "cifar10.yaml")
    parser.add_argument("--measures", type=int, default=45, help="how many (default 45)")
    parser.add_argument("--out", type=Path, help="write the table there as well")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        text = report(given.study, given.measures, measure(given.study, given.measures, Path(folder)))
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
