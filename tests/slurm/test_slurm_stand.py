"""The test cluster leaves other clusters' configuration alone, and nothing behind when it does not come up."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
import slurm_cluster as cluster

SLEEPER = "import time; time.sleep(600)"


@pytest.fixture
def etc(tmp_path: Path, monkeypatch) -> Path:
    """Slurm's default place and this cluster's lock, elsewhere; any user may."""
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr(cluster, "ETC", folder)
    monkeypatch.setattr(cluster, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(cluster.shutil, "which", lambda name: name)
    monkeypatch.setattr(cluster.os, "geteuid", lambda: 0)
    return folder


def linked(etc: Path, folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(cluster.GPUS)
    for name in cluster.FILES:
        (etc / name).symlink_to(folder / name)


def test_a_place_that_is_free_or_was_ours_is_taken(etc, tmp_path):
    assert cluster.why_not() == ""
    linked(etc, tmp_path / "ours", (cluster.HERE / "slurm.conf").read_text())
    assert cluster.why_not() == ""
    for name in cluster.FILES:  # an earlier cluster whose folder is gone
        (tmp_path / "ours" / name).unlink()
    assert cluster.why_not() == ""


@pytest.mark.parametrize("text", ["ClusterName=theirs", "# was ClusterName=robustgap\nClusterName=theirs", ""])
def test_another_clusters_files_are_left_alone(text, etc, tmp_path):
    linked(etc, tmp_path / "theirs", text)
    assert cluster.why_not() == f"{etc / 'slurm.conf'} belongs to another cluster"
    with pytest.raises(RuntimeError, match="belongs to another cluster"):
        cluster.Cluster(tmp_path / "root").__enter__()
    assert (etc / "slurm.conf").read_text() == text
    (etc / "slurm.conf").unlink()
    (etc / "slurm.conf").write_text(text)
    assert cluster.why_not() == f"{etc / 'slurm.conf'} belongs to another cluster"
    (etc / "slurm.conf").unlink()
    assert cluster.why_not() == f"{etc / 'gres.conf'} belongs to another cluster"


@pytest.mark.parametrize("fails", ["nodes stay down", "jobs stay"])
def test_what_fails_leaves_no_daemon_link_or_lock(fails, etc, tmp_path, monkeypatch):
    started: list[subprocess.Popen] = []

    def start(self: cluster.Cluster, name: str, *command: str) -> None:
        self.daemons[name] = subprocess.Popen([sys.executable, "-c", SLEEPER])
        started.append(self.daemons[name])

    def ask(self: cluster.Cluster, *command: str) -> str:
        return {"sinfo": "down" if fails == "nodes stay down" else "idle", "squeue": "17"}.get(command[0], "")

    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(cluster.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(cluster.Cluster, "start", start)
    monkeypatch.setattr(cluster.Cluster, "ask", ask)
    with pytest.raises(AssertionError, match="in vain until"), cluster.Cluster(tmp_path / "root"):
        assert fails == "jobs stay" and len(started) == 3
    assert [daemon.poll() for daemon in started] == [-9] * 3
    assert not list(etc.iterdir())
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
