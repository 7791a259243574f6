"""Copies of the project in which tests may run Snakemake, change files and run it again."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NO_SLURM = ROOT / "tests" / "slurm" / "absent"
PARTS = ("Snakefile", "environment.yml", "robustgap", "workflow", "training", "measures", "analysis")
FINISHED = re.compile(r"^Finished jobid: \d+ \(Rule: (\w+)\)", re.MULTILINE)
PLANNED = re.compile(r"^(\w+) +(\d+)$", re.MULTILINE)


def snakemake(folder: Path, *options: str) -> subprocess.CompletedProcess:
    """Snakemake on this project's Snakefile with another working directory, so that nothing is left here."""
    program = Path(sys.executable).parent / "snakemake"
    command = [str(program), "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), *options]
    env = {**os.environ, "PATH": f"{NO_SLURM}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)


@dataclass
class Result:
    """What a command left: exit code, stdout and stderr together, and how many jobs of each rule ran (or would)."""

    code: int
    text: str
    jobs: Counter


@dataclass
class Tree:
    """A copy of the project. Commands run inside it, on its own code, because the working directory comes first."""

    path: Path
    first: Result | None = None
    slurm: bool = False  # whether a cluster runs for it

    @classmethod
    def of_project(cls, path: Path) -> "Tree":
        path.mkdir(parents=True)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, path / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / part, path / part)
        return cls(path)

    def copy(self, path: Path) -> "Tree":
        """The tree with its results; modification times are kept, so nothing seems to have changed."""
        shutil.copytree(self.path, path, symlinks=True)
        return Tree(path)

    def environment(self) -> dict[str, str]:
        """Variables of commands in the tree: the environment's bin folder first, and Slurm only where it answers."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE", "PYTHONPATH"))}
        first = [Path(sys.executable).parent, *([] if self.slurm else [NO_SLURM])]
        return env | {"PATH": os.pathsep.join([*map(str, first), env["PATH"]])}

    def command(self, *arguments: str) -> Result:
        """Run a command of the environment's bin folder inside the tree."""
        ran = subprocess.run(
            arguments, cwd=self.path, env=self.environment(), capture_output=True, text=True, timeout=1500
        )
        text = ran.stdout + ran.stderr
        return Result(ran.returncode, text, Counter(FINISHED.findall(text)))

    def run(self, study: str, *options: str, profile: str = "local") -> Result:
        """Run Snakemake on workflow/config/STUDY.yaml with two cores. Targets come first among the options: several of
        Snakemake's own options swallow what follows them."""
        return self.command(
            *("snakemake", *options, "--configfile", f"workflow/config/{study}.yaml"),
            *("--workflow-profile", f"workflow/profiles/{profile}", "--cores", "2"),
        )

    def plan(self, study: str, *options: str, profile: str = "local") -> Result:
        """What Snakemake would run (`-n`); `jobs` counts the planned jobs."""
        result = self.run(study, *options, "--dry-run", "--quiet", "rules", profile=profile)
        planned = {rule: int(count) for rule, count in PLANNED.findall(result.text) if rule != "total"}
        return Result(result.code, result.text, Counter(planned))

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace `old`, which must stand there, by `new` in a file of the tree."""
        text = (self.path / file).read_text()
        assert old in text, f"{file}: {old!r} not found"
        (self.path / file).write_text(text.replace(old, new))
