"""What ends jobs on a cluster, done to true jobs on a real Slurm: every run ends with the weights of an unbroken one.

Each run waits after its second epoch for as long as a file HOLD-RUN stands in the working directory, so that the fault
meets it in the middle. One Snakemake drives all runs; each of them suffers another fault.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from slurm_cluster import Cluster, until
from small_runs import same_weights, without_seconds
from trees import Tree

from robustgap.training.jobs.lock import started

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(1800)]

STUDY = "workflow/config/digits-tiny.yaml"
RESULTS = "results/digits-tiny"
FAULTS = ["scancel", "time limit", "SIGKILL", "preempted", "node down", "none"]
HOLD = """    def after_epoch(weights: dict[str, Tensor] | None) -> None:
        while progress.epoch >= 2 and Path(f"HOLD-{run}").exists():
            __import__("time").sleep(0.05)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Six runs in six jobs, trained without a fault; the data of later trees, and what they must end with."""
    tree = Tree.of_project(tmp_path_factory.mktemp("unbroken") / "project")
    study = yaml.safe_load((tree.path / STUDY).read_text())
    study["axes"], study["seeds"] = {"defense": ["AT"]}, list(range(len(FAULTS)))
    study["chunks"] = 500  # so many that each run is alone in its job
    (tree.path / STUDY).write_text(yaml.safe_dump(study))
    tree.first = tree.run("digits-tiny", "--until", "train")
    assert tree.first.code == 0, tree.first.text
    assert tree.first.jobs["train"] == len(FAULTS), "two runs share a job: choose other chunks"
    tree.edit("training/jobs/run.py", HOLD.splitlines(keepends=True)[0], HOLD)
    return tree


class Driven:
    """A Snakemake that trains the runs of `trained` anew on the cluster, each held after its second epoch."""

    def __init__(self, trained: Tree, path: Path, cluster: Cluster):
        self.tree, self.cluster = trained.copy(path), cluster
        self.tree.slurm, self.unbroken = True, trained.path / RESULTS / "runs"
        self.plan = json.loads((path / RESULTS / "plan.json").read_text())
        self.runs, self.before = list(self.plan["runs"]), set(cluster.jobs())
        shutil.rmtree(path / RESULTS / "runs")
        shutil.rmtree(path / RESULTS / "logs")
        self.heads: list[subprocess.Popen] = []
        for run in self.runs:
            self.hold(run).touch()

    def close(self) -> None:
        """Leave nothing behind, whatever a test came to: Snakemake first, or it submits again what is cancelled."""
        for head in self.heads:
            if head.poll() is None:
                os.killpg(head.pid, signal.SIGKILL)
                head.wait()
        self.cluster.ask("scancel", "--user=root")
        until(lambda: not self.cluster.ask("squeue", "-h"), "all jobs have ended")

    def hold(self, run: str) -> Path:
        return self.tree.path / f"HOLD-{run}"

    def folder(self, run: str) -> Path:
        return self.tree.path / RESULTS / "runs" / run

    def log(self, run: str) -> str:
        path = self.tree.path / RESULTS / "logs" / "train" / f"{self.plan['runs'][run]['batch']}.log"
        return path.read_text() if path.exists() else ""

    def snakemake(self) -> subprocess.Popen:
        command = ["snakemake", "--until", "train", "--configfile", STUDY, "--seconds-between-status-checks", "1"]
        command += ["--workflow-profile", "workflow/profiles/cluster"]
        said = (self.tree.path / "snakemake.out").open("a")
        env, path = self.tree.environment(), self.tree.path
        self.heads += [subprocess.Popen(command, cwd=path, env=env, stdout=said, stderr=said, start_new_session=True)]
        return self.heads[-1]

    def said(self) -> str:
        return (self.tree.path / "snakemake.out").read_text()

    def holder(self, run: str) -> dict:
        """The process and the job that hold the lock of a run, as the lock says."""
        (lock,) = self.folder(run).glob("lock.*")
        return json.loads(lock.read_text())

    def let_go_after(self, run: str, process: int) -> None:
        """Let a run go on once its process has ended: a signal takes its time, and it would train an epoch more."""
        until(lambda: not started(process), f"process {process} has ended")
        self.hold(run).unlink()

    def until_held(self, runs: list[str]) -> None:
        """Until the first epoch of each run is behind it, and the second waits."""
        for run in runs:
            until(lambda run=run: f"{run} epoch 1/6" in self.log(run), f"{run} has trained an epoch")

    def state(self, job: str) -> str:
        return self.cluster.jobs()[job]["JobState"]

    def check(self) -> None:
        for run in self.runs:
            assert same_weights(self.folder(run), self.unbroken / run), self.log(run)
            assert without_seconds(self.folder(run)) == without_seconds(self.unbroken / run)
            assert not list(self.folder(run).glob("lock.*")) and not (self.folder(run) / "resume.safetensors").exists()


@pytest.fixture(scope="module")
def drive(trained: Tree, cluster: Cluster, tmp_path_factory) -> Iterator[Callable[[], Driven]]:
    """Makes a copy of `trained` that Snakemake drives; all of them are ended at last."""
    driven: list[Driven] = []

    def start() -> Driven:
        driven.append(Driven(trained, tmp_path_factory.mktemp("driven") / "project", cluster))
        return driven[-1]

    yield start
    for each in driven:
        each.close()


@pytest.fixture(scope="module")
def battered(drive: Callable[[], Driven], cluster: Cluster) -> tuple[Driven, dict[str, str]]:
    """The runs after their faults, and which run suffered what."""
    driven = drive()
    head, suffers = driven.snakemake(), dict(zip(FAULTS, driven.runs, strict=True))
    driven.until_held(driven.runs)
    holders = {fault: driven.holder(run) for fault, run in suffers.items()}
    jobs, processes = ({fault: each[key] for fault, each in holders.items()} for key in ("job", "pid"))
    cluster.ask("scontrol", "update", f"jobid={jobs['time limit']}", "EndTime=now+1")  # Slurm looks every 30 seconds
    cluster.ask("scancel", jobs["scancel"])
    os.kill(processes["SIGKILL"], signal.SIGKILL)
    driven.hold(suffers["none"]).unlink()
    for fault in ("scancel", "SIGKILL", "time limit"):
        driven.let_go_after(suffers[fault], processes[fault])
    assert driven.state(jobs["time limit"]) in ("COMPLETING", "TIMEOUT")
    # whole nodes are taken, so the others are waited for, and the last two suffer one after the other
    left = {jobs["preempted"], jobs["node down"]}
    for fault in ("scancel", "SIGKILL", "time limit", "none"):  # a job that is about to be tried again is in no queue
        until(lambda fault=fault: (driven.folder(suffers[fault]) / "run.json").exists(), f"{fault} is trained")
    until(lambda: set(cluster.ask("squeue", "-h", "-o", "%i").split()) == left, "all other jobs are done")
    cluster.preempt(jobs["preempted"])
    for job in [job for job in left if driven.state(job) == "PENDING"]:  # two where both had the same node
        cluster.start_again(job)
    driven.let_go_after(suffers["preempted"], processes["preempted"])
    until(lambda: cluster.ask("squeue", "-h", "-o", "%i %T") == f"{jobs['node down']} RUNNING", "one job is left")
    assert cluster.jobs()[jobs["preempted"]]["Restarts"] == "1"
    node = cluster.jobs()[jobs["node down"]]["NodeList"]
    cluster.crash(node, driven.tree.path)
    driven.hold(suffers["node down"]).unlink()
    cluster.start_again(jobs["node down"])
    head.wait(timeout=900)
    cluster.start(node, "slurmd", "-D", "-N", node)
    cluster.ask("scontrol", "update", f"nodename={node}", "state=resume")
    assert head.returncode == 0, driven.said()
    return driven, suffers


def test_every_run_ends_as_if_unbroken(battered):
    battered[0].check()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_goes_on_after_its_last_epoch(battered, fault):
    """Of the log the last try is left: Snakemake removes what earlier ones said."""
    driven, suffers = battered
    log = driven.log(suffers[fault])
    assert (": resumed after epoch 1" in log) == (fault != "none"), log
    epochs = [int(found) for found in re.findall(r" epoch (\d)/6 ", log)]
    assert epochs == list(range(1 if fault == "none" else 2, 7)), log


def test_a_job_that_is_tried_again_asks_for_more_memory(battered):
    """Three jobs failed and were tried again; two were requeued, and kept their id and their memory."""
    driven, _ = battered
    jobs = [fields for job, fields in driven.cluster.jobs().items() if job not in driven.before]
    memory = [fields["MinMemoryNode"] for fields in jobs if fields["Partition"] == "main"]
    assert sorted(memory) == sorted(["8000M"] * len(FAULTS) + ["16000M"] * 3)


def test_killed_and_started_again_snakemake_never_has_a_second_writer(drive, cluster):
    """One run is finished when Snakemake dies, five wait in the middle. Their jobs go on; the new Snakemake submits
    them again; those jobs wait, and find the runs trained."""
    driven = drive()
    finished, *held = driven.runs
    driven.hold(finished).unlink()
    head = driven.snakemake()
    driven.until_held(held)
    until(
        lambda: f"{driven.plan['runs'][finished]['batch']}.json" in os.listdir(driven.folder("")), "a run is finished"
    )
    second = driven.tree.run("digits-tiny", profile="cluster")
    assert second.code != 0 and "Directory cannot be locked" in second.text  # two in one directory
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    first = {run: driven.holder(run) for run in held}
    record = (driven.folder(finished) / "run.json").stat().st_mtime_ns
    assert driven.tree.run("digits-tiny", "--unlock").code == 0
    head = driven.snakemake()
    for run in held:
        until(
            lambda run=run: f"{driven.folder(run).relative_to(driven.tree.path)}: is being trained" in driven.log(run),
            f"{run} has a second job",
        )
    assert {run: driven.holder(run) for run in held} == first
    states = [fields["JobState"] for job, fields in cluster.jobs().items() if job not in driven.before]
    assert states.count("RUNNING") == 2 * len(held)
    for run in held:
        driven.hold(run).unlink()
    assert head.wait(timeout=900) == 0, driven.said()
    driven.check()
    for run in held:
        assert "trains on" not in driven.log(run), driven.log(run)
    assert (driven.folder(finished) / "run.json").stat().st_mtime_ns == record
    assert driven.log(finished).count("run 1 of 1") == 1
