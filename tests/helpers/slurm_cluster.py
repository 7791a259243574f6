"""A real Slurm on this machine, for as long as the tests run: two nodes, two fake GPUs each.

Needs root and Debian's packages slurmctld, slurmd and slurm-client. The configuration lies at Slurm's default place (a
link), because the executor plugin removes the SLURM_* variables inside jobs; a machine that has a configuration of its
own is left alone.
"""

import contextlib
import fcntl
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parents[1] / "slurm"
ETC = Path("/etc/slurm")
LOCK = Path("/run/lock/robustgap-slurm.lock")
# Any character device may stand for a GPU: Slurm gives it to one job at a time and sets CUDA_VISIBLE_DEVICES.
GPUS = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"
FILES = ("slurm.conf", "gres.conf")
NAME = "ClusterName=robustgap"


def why_not() -> str:
    """Why no cluster can be started here; '' when it can."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch") if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} not found: apt-get install slurmctld slurmd slurm-client"
    if os.geteuid() != 0:
        return "starting slurmctld and slurmd needs root"
    foreign = [ETC / name for name in FILES if not ours(ETC / name)]
    return f"{foreign[0]} belongs to another cluster" if foreign else ""


def ours(link: Path) -> bool:
    """Whether a place for a configuration is free, or holds a link of an earlier cluster of these tests: its target is
    gone, or stands beside a configuration of theirs."""
    if not link.exists():
        return link.is_symlink() or not os.path.lexists(link)
    beside = link.resolve().parent / "slurm.conf"
    return link.is_symlink() and beside.is_file() and NAME in beside.read_text().splitlines()


def until(condition: Callable[[], object], what: str, seconds: float = 900) -> None:
    """Look ten times a second until `condition()`; fails naming `what` when it does not come true."""
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, f"waited {seconds} s in vain until {what}"
        time.sleep(0.1)


def processes_in(folder: Path) -> list[int]:
    """Processes whose working directory is `folder` or below."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:  # gone meanwhile
            continue
    return found


class Cluster:
    """`with Cluster(root) as cluster:`; root is a folder of its own. One at a time on a machine: others wait."""

    def __init__(self, root: Path):
        self.root, self.daemons = root, dict[str, subprocess.Popen]()

    def __enter__(self) -> "Cluster":
        with contextlib.ExitStack() as undo:  # whatever fails on the way up takes down what stands
            lock = undo.enter_context(LOCK.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            if reason := why_not():  # a cluster of another kind may have come up meanwhile
                raise RuntimeError(reason)
            undo.callback(self.unlink)
            self.link()
            undo.callback(self.kill)
            self.start("slurmctld", "slurmctld", "-D")
            for node in ("n1", "n2"):
                self.start(node, "slurmd", "-D", "-N", node)
            undo.callback(self.end_jobs)
            until(lambda: self.ask("sinfo", "-h", "-p", "main", "-o", "%T") == "idle", "both nodes are idle", 120)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()

    def link(self) -> None:
        """The configuration, in the root folder and from where Slurm looks for it."""
        for folder in ("state", "spool/n1", "spool/n2"):
            (self.root / folder).mkdir(parents=True)
        text = (HERE / "slurm.conf").read_text()
        text = text.replace("{root}", str(self.root)).replace("{host}", platform.node().partition(".")[0])
        ETC.mkdir(exist_ok=True)
        for name, content in zip(FILES, (text, GPUS), strict=True):
            (self.root / name).write_text(content)
            (ETC / name).unlink(missing_ok=True)
            (ETC / name).symlink_to(self.root / name)

    def unlink(self) -> None:
        for name in FILES:
            (ETC / name).unlink(missing_ok=True)

    def kill(self) -> None:
        for daemon in self.daemons.values():
            daemon.kill()
            daemon.wait()

    def end_jobs(self) -> None:
        if self.daemons["slurmctld"].poll() is None:  # else nobody answers
            self.ask("scancel", "--user=root")
            until(lambda: not self.ask("squeue", "-h"), "all jobs have ended", 120)

    def start(self, name: str, *command: str) -> None:
        said = (self.root / f"{name}.out").open("w")
        self.daemons[name] = subprocess.Popen(command, stdout=said, stderr=said)

    def ask(self, *command: str) -> str:
        """What a Slurm command prints (it may fail)."""
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()

    def jobs(self) -> dict[str, dict[str, str]]:
        """All jobs that Slurm remembers, by id: every field of `scontrol show job`, with the GPUs that were given."""
        found = {}
        said = self.ask("scontrol", "--oneliner", "--details", "show", "jobs")
        for line in [line for line in said.splitlines() if line.startswith("JobId=")]:
            fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
            found[fields["JobId"]] = fields
        return found

    def start_again(self, job: str) -> None:
        """Cut short the two minutes before a requeued job may start. Not down to nothing: a node refuses a job in the
        second in which it has killed it (`Job credential revoked`)."""
        until(lambda: self.jobs()[job]["JobState"] == "PENDING", f"job {job} waits for its next turn")
        pending = time.monotonic()
        until(lambda: time.monotonic() > pending + 2, "the second is over")
        self.ask("scontrol", "update", f"jobid={job}", "StartTime=now")

    def preempt(self, job: str) -> None:
        """A job of the partition `urgent` takes the whole node of `job`, and ends: what ran there must start again."""
        asked = ("--parsable", "--partition=urgent", "--exclusive", f"--nodelist={self.jobs()[job]['NodeList']}")
        urgent = self.ask("sbatch", *asked, "--output=/dev/null", "--wrap=true")
        until(lambda: self.jobs()[urgent]["JobState"] == "COMPLETED", "the urgent job has had the node")

    def crash(self, node: str, folder: Path) -> None:
        """A node goes down with everything on it: daemon, job steps, and the jobs' processes, which run in `folder`."""
        on_node = [job for job, fields in self.jobs().items() if fields.get("NodeList") == node]
        self.daemons[node].kill()
        self.daemons[node].wait()
        for pid in [*self.steps_of(on_node), *self.processes_of(on_node, folder)]:
            os.kill(pid, signal.SIGKILL)
        # what the controller finds out by itself after SlurmdTimeout
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=crashed")

    def steps_of(self, jobs: list[str]) -> list[int]:
        """The step daemons of jobs, which would report that a job's processes died."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                title = entry.read_bytes().decode(errors="replace")
            except OSError:
                continue
            if any(title.startswith(f"slurmstepd: [{job}.") for job in jobs):
                found.append(int(entry.parent.name))
        return found

    def processes_of(self, jobs: list[str], folder: Path) -> list[int]:
        """Processes of jobs that run in `folder`, by SLURM_JOB_ID in their environment."""
        found = []
        for pid in processes_in(folder):
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(f"SLURM_JOB_ID={job}".encode() in environment for job in jobs):
                found.append(pid)
        return found
