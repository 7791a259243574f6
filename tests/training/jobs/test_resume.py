"""A training killed at any moment ends with the same weights, bit for bit, as one that was not."""

import json
import random
import signal
import subprocess
import sys

import pytest
import torch
from planted import make_plan
from small_runs import interrupted, read_log, same_weights, train, without_seconds

from robustgap.training.checkpoint import file_digest, load_weights, read_json

# Trains the runs of a plan in children that kill themselves with SIGKILL at given moments, then in one that does not.
# step: inside training step n; write: in the middle of writing file n; replace: before file n gets its name.
KILLED = """
import json, os, signal, sys
import torch
from robustgap.training import loop
from robustgap.training.__main__ import main

arguments, moments = sys.argv[1:-1], json.loads(sys.argv[-1])

def die_at(kind, count):
    seen = [0]
    def due():
        seen[0] += 1
        return seen[0] == count
    def die():
        os.kill(os.getpid(), signal.SIGKILL)
    step, replace, write = loop.train_step, os.replace, os.fsync
    if kind == "step":
        loop.train_step = lambda *given: (die() if due() else None, step(*given))[1]
    if kind == "replace":
        os.replace = lambda *given: (die() if due() else None, replace(*given))[1]
    if kind == "write":
        def half(file):
            if due():
                os.truncate(file, os.fstat(file).st_size // 2)
                die()
            return write(file)
        os.fsync = half

# The first step of an optimizer imports half of torch; done before forking, it is not done in every child.
torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1).step()
ends = []
for moment in [*moments, None]:
    child = os.fork()
    if child == 0:
        if moment:
            die_at(*moment)
        os._exit(main(arguments))
    status = os.waitpid(child, 0)[1]
    ends.append(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def at_run(tmp_path_factory):
    """One AT run with AWP and its folder."""
    return train(tmp_path_factory.mktemp("at"), defense="AT", awp=True)


def trained_with_kills(tmp_path, moments):
    """Train the AT run in children that die at these moments: (how each ended, its stderr, folder, manifest)."""
    plan = make_plan([{"defense": "AT", "awp": True, "width": 4, "inner_steps": 1, "epochs": 3}])
    (run,) = plan["runs"]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    out = tmp_path / "runs" / "000.json"
    arguments = ["train", "--plan", tmp_path / "plan.json", "--batch", "000", "--results", tmp_path, "--out", out]
    command = [sys.executable, "-c", KILLED, *map(str, [*arguments, "--device", "cpu"]), json.dumps(moments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr, tmp_path / "runs" / run, read_json(out)


def test_killed_at_any_moment_a_run_ends_bit_for_bit_as_if_unbroken(at_run, tmp_path):
    """500 images in batches of 128: 4 steps and 2 files (log, sidecar) an epoch, init before and four files after."""
    moments = [
        ["write", 1],  # init half written
        ["step", 3],  # in the first epoch: nothing to resume yet
        ["replace", 3],  # the first sidecar written, but not in place
        ["step", 6],  # in the second epoch
        ["write", 5],  # resumed after the first; the log of the third is written, its sidecar half
        ["write", 4],  # resumed after the second; last half written
        ["replace", 4],  # all weights there, the log not in place
        ["replace", 5],  # and the log, but not run.json
    ]
    ends, said, folder, manifest = trained_with_kills(tmp_path, moments)
    assert ends == [-signal.SIGKILL] * len(moments) + [0], said
    assert folder.name == at_run[0].name and said.count(f"{folder.name}: resumed after epoch") >= 3
    assert said.count(": its process is gone") == len(moments)  # each death leaves its lock to the next
    assert same_weights(folder, at_run[0])
    assert without_seconds(folder) == without_seconds(at_run[0])
    assert not (folder / "resume.safetensors").exists() and not list(folder.glob("lock.*"))
    files = manifest["runs"][folder.name]["files"]
    assert {**files, "log.csv": file_digest(folder / "log.csv")} == files
    assert {**files, "log.csv": at_run[1]["files"]["log.csv"]} == at_run[1]["files"]


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(seed, at_run, tmp_path):
    """Eight moments, drawn; one that comes after the end kills nobody."""
    chance = random.Random(seed)
    moments = [[chance.choice(["step", "write", "replace"]), chance.randint(1, 6)] for _ in range(8)]
    ends, said, folder, _ = trained_with_kills(tmp_path, moments)
    assert set(ends) <= {0, -signal.SIGKILL} and ends.count(-signal.SIGKILL) >= 4 and ends[-1] == 0, said
    assert same_weights(folder, at_run[0]) and without_seconds(folder) == without_seconds(at_run[0])


def test_a_sidecar_that_is_damaged_or_anothers_is_refused_by_name(at_run, tmp_path, monkeypatch, capsys):
    folder = interrupted(tmp_path, monkeypatch, 2, defense="AT", awp=True)
    other = interrupted(tmp_path, monkeypatch, 1, defense="AT", awp=True, seed=1)
    sidecar = folder / "resume.safetensors"
    whole = sidecar.read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "not a complete safetensors file"),
        (whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2), "SHA-256 of the content found"),
        (whole[:-5000] + bytes([whole[-5000] ^ 1]) + whole[-4999:], "SHA-256 of the content found"),
        ((other / "resume.safetensors").read_bytes(), f"found run {other.name}"),
    ):
        sidecar.write_bytes(content)
        train(tmp_path, defense="AT", awp=True)
        said = capsys.readouterr().err
        assert f"{sidecar}: {message}" in said and f"run {folder.name} starts again" in said
        assert same_weights(folder, at_run[0])
        (folder / "run.json").unlink()


@pytest.mark.parametrize("defense", ["Standard", "TRADES", "MART", "FGSM-RS", "ALP"])
def test_every_defense_resumes_to_the_same_weights(defense, tmp_path, monkeypatch):
    given = {"defense": defense, "augmentation": "crop_flip", "batch_size": 256}
    unbroken, _ = train(tmp_path / "unbroken", **given)
    interrupted(tmp_path, monkeypatch, 2, **given)
    resumed, _ = train(tmp_path, **given)
    assert same_weights(unbroken, resumed) and without_seconds(unbroken) == without_seconds(resumed)


def test_a_run_in_channels_last_is_another_run_of_nearly_the_same_weights_and_resumes(tmp_path, monkeypatch):
    plain, _ = train(tmp_path, width=8)
    unbroken, record = train(tmp_path / "unbroken", width=8, channels_last=True)
    interrupted(tmp_path, monkeypatch, 2, width=8, channels_last=True)
    resumed, _ = train(tmp_path, width=8, channels_last=True)
    assert same_weights(unbroken, resumed) and without_seconds(unbroken) == without_seconds(resumed)
    assert unbroken.name != plain.name and record["settings"]["channels_last"] is True
    one, other = (load_weights(folder / "init.safetensors") for folder in (plain, unbroken))
    assert all(torch.equal(one[name], other[name]) for name in one)
    losses = [float(read_log(folder)[0]["train_loss"]) for folder in (plain, unbroken)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
