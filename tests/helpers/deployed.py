"""The project as others get it: installed as from its wheel, and as a git repository of a public address."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from trees import FINISHED, NO_SLURM, PLANNED, ROOT, Result, Tree

from robustgap import __version__

OWNER = "somebody/robustgap"
ADDRESS = f"https://github.com/{OWNER}"
TAG = f"v{__version__}"
OLD = "v0.0.1"


def install(folder: Path) -> Path:
    """The folder that a wheel would fill, for PYTHONPATH."""
    build = ["egg_info", "--egg-base", str(folder), "build_py", "--build-lib", str(folder / "site")]
    setup = [sys.executable, "-c", "import setuptools; setuptools.setup()", "--quiet"]
    subprocess.run([*setup, *build], cwd=ROOT, check=True, capture_output=True)
    return folder / "site"


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def publish(folder: Path) -> Path:
    """A git repository of the project, at the tag of its version, with an older tag beside it."""
    Tree.of_project(folder)
    for part in ("config", "profiles", "LICENSE"):
        if (ROOT / part).is_dir() and not (ROOT / part).is_symlink():
            shutil.copytree(ROOT / part, folder / part, symlinks=True)
        else:
            shutil.copy2(ROOT / part, folder / part, follow_symlinks=False)
    git(folder, "init", "--quiet", "--initial-branch=main")
    version = folder / "robustgap" / "__init__.py"
    text = version.read_text()
    for tag, said in ((OLD, text.replace(__version__, OLD[1:])), (TAG, text)):
        version.write_text(said)
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", tag)
        git(folder, "tag", tag)
    return folder


class Place:
    """A folder of somebody who uses the project. `site` comes first among the places of Python's modules."""

    def __init__(self, path: Path, repository: Path, site: Path | None = None):
        self.path, self.site = path, site
        path.mkdir(parents=True, exist_ok=True)
        self.home = repository.parent / "home"  # one cache of clones for all
        self.home.mkdir(exist_ok=True)
        lines = f'[url "file://{repository}"]\n  insteadOf = {ADDRESS}\n[safe]\n  directory = *\n'
        (self.home / "gitconfig").write_text(lines)

    def command(self, *arguments: str) -> Result:
        """Run a command of the environment's bin folder."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE", "PYTHON"))}
        env |= {"GIT_CONFIG_GLOBAL": str(self.home / "gitconfig"), "XDG_CACHE_HOME": str(self.home / "cache")}
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), str(NO_SLURM), env["PATH"]])
        env |= {"PYTHONPATH": str(self.site)} if self.site else {}
        ran = subprocess.run(arguments, cwd=self.path, env=env, capture_output=True, text=True, timeout=1500)
        text = ran.stdout + ran.stderr
        return Result(ran.returncode, text, Counter(FINISHED.findall(text)))

    def run(self, *options: str) -> Result:
        return self.command("snakemake", *options, "--cores", "2", "--scheduler", "greedy")

    def plan(self, *options: str) -> Result:
        result = self.run(*options, "--dry-run", "--quiet", "rules")
        planned = {rule: int(count) for rule, count in PLANNED.findall(result.text) if rule != "total"}
        return Result(result.code, result.text, Counter(planned))
