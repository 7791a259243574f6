"""A disk that fills up ends a job with one clear line, loses nothing that was finished, and is gone on from."""

import errno
import json
import os
import subprocess

import pytest
from planted import make_plan
from small_runs import same_weights
from trees import ROOT, snakemake

from robustgap.training import loop
from robustgap.training.__main__ import main
from robustgap.training.checkpoint import write_atomically
from robustgap.training.jobs.lock import RunLock


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(folder):
    """Take all the space that is left; the file that holds it."""
    hog = folder / "hog"
    with pytest.raises(OSError) as full, hog.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert full.value.errno == errno.ENOSPC
    return hog


def test_a_file_that_finds_no_space_is_named_and_the_old_one_stays(small_disk):
    path = small_disk / "table.csv"
    write_atomically(path, "old")
    hog = fill(small_disk)
    with pytest.raises(OSError, match=rf"No space left on device: '{path}'"):
        write_atomically(path, bytes(9000))
    assert path.read_text() == "old" and sorted(os.listdir(small_disk)) == ["hog", "table.csv"]
    hog.unlink()
    write_atomically(path, bytes(9000))


def test_a_lock_that_finds_no_space_is_named_and_leaves_nothing(small_disk):
    fill(small_disk)
    with pytest.raises(OSError, match=rf"No space left on device: '{small_disk}/lock.1'"):
        RunLock(small_disk).acquire()
    assert os.listdir(small_disk) == ["hog"]


def test_a_training_that_fills_the_disk(small_disk, tmp_path, monkeypatch, capsys):
    """The first run is finished; in the second epoch of the other the disk is full."""
    plan = make_plan([{"defense": "Standard", "seed": 0}, {"defense": "Standard", "seed": 1, "epochs": 3}])
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    whole, broken = plan["runs"]

    def job(results):
        given = ["train", "--plan", tmp_path / "plan.json", "--batch", "000", "--results", results]
        return main([*map(str, given), "--out", str(results / "runs" / "000.json"), "--device", "cpu"])

    assert job(tmp_path / "unbroken") == 0
    scores, epochs = loop.epoch_scores, []

    def filling(*arguments):
        epochs.append(1)
        if len(epochs) == 4:  # two of the first run, two of the second
            fill(small_disk)
        return scores(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "epoch_scores", filling)
        capsys.readouterr()
        assert job(small_disk) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: [Errno 28] No space left on device: ") and f"{small_disk}/runs/{broken}/" in last
    folder = small_disk / "runs"
    record = (folder / whole / "run.json").read_bytes()
    assert same_weights(folder / whole, tmp_path / "unbroken" / "runs" / whole)
    assert not (folder / "000.json").exists() and not (folder / broken / "run.json").exists()
    (small_disk / "hog").unlink()
    assert job(small_disk) == 0
    assert f"{broken}: resumed after epoch 1" in capsys.readouterr().err
    assert same_weights(folder / broken, tmp_path / "unbroken" / "runs" / broken)
    assert (folder / whole / "run.json").read_bytes() == record


@pytest.mark.study
def test_snakemake_on_a_full_disk_is_started_again_without_unlocking(small_disk):
    """There is space for what Snakemake writes first, and not for what the job does."""
    given = ["--configfile", f"{ROOT}/workflow/config/digits-tiny.yaml", "--cores", "1"]
    given += ["--workflow-profile", f"{ROOT}/workflow/profiles/local"]
    hog = fill(small_disk)
    os.truncate(hog, hog.stat().st_size - 40960)
    full = snakemake(small_disk, "results/digits-tiny/catalogue.json", *given)
    assert full.returncode != 0 and "No space left on device" in full.stdout + full.stderr
    hog.unlink()
    again = snakemake(small_disk, "results/digits-tiny/catalogue.json", *given)
    assert again.returncode == 0, again.stderr
    assert json.loads((small_disk / "results" / "digits-tiny" / "catalogue.json").read_text())
