"""A run that another process trains, or takes over in the middle: who waits, and who stops before it writes."""

import pytest
from small_runs import elsewhere, files, same_weights, settings_of, train

from robustgap.training import loop
from robustgap.training.data.datasets import load
from robustgap.training.jobs import lock, run
from robustgap.training.jobs.lock import Held, take_turns
from robustgap.training.jobs.run import train_run
from robustgap.training.settings import run_id


def test_what_others_train_comes_last_and_is_waited_for(capsys):
    """b is with somebody for three tries, d for one."""
    left, order, naps = {"b": 3, "d": 1}, [], []

    def work(run):
        order.append(run)
        if left.get(run, 0):
            left[run] -= 1
            raise Held(f"{run}: is being trained by n7")

    take_turns("abcd", work, naps.append)
    assert order == ["a", "b", "c", "d", "b", "d", "b", "b"]
    assert naps == [lock.POLL]  # only where a whole round brought nothing
    assert capsys.readouterr().err.splitlines() == [
        f"{run}: is being trained by n7: training the others first, then waiting for it" for run in "bd"
    ]


def test_a_run_that_another_process_trains_is_left_alone(tmp_path):
    folder = tmp_path / run_id(settings_of())
    folder.mkdir()
    elsewhere(folder)
    with pytest.raises(Held):
        train(tmp_path)
    assert files(folder) == ["lock.1"]


def test_a_job_that_was_taken_over_in_its_sleep_stops_before_it_writes(tmp_path, monkeypatch, capsys):
    """In the second epoch the lock changes hands: the sidecar stays where the first epoch left it, and from there the
    successor ends with the weights of an unbroken run."""
    unbroken, _ = train(tmp_path / "unbroken")
    settings, scores, seen = settings_of(), loop.epoch_scores, []
    folder = tmp_path / run_id(settings)

    def frozen(*arguments):
        seen.append((folder / "resume.safetensors").read_bytes() if seen else None)
        if len(seen) == 2:
            elsewhere(folder, 2)
        return scores(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Held, match="was taken over"):
        patch.setattr(loop, "epoch_scores", frozen)
        train(tmp_path)
    assert (folder / "resume.safetensors").read_bytes() == seen[1] and not (folder / "run.json").exists()
    (folder / "lock.2").unlink()
    train_run(settings, load("digits"), None, folder, loop.torch.device("cpu"))
    assert f"{folder.name}: resumed after epoch 1" in capsys.readouterr().err
    assert same_weights(folder, unbroken)


@pytest.mark.parametrize(
    "last_act, missing", [("save_model", "best.safetensors"), ("save_tensors", "run.json"), ("make_record", "run.json")]
)
def test_a_job_taken_over_while_it_writes_its_results_writes_no_further(last_act, missing, tmp_path, monkeypatch):
    """The lock changes hands in the middle of the final writes: what comes next belongs to the successor."""
    folder, original = tmp_path / run_id(settings_of()), getattr(run, last_act)

    def frozen(*given, **more):
        done = original(*given, **more)
        if last_act != "save_model" or given[0].name == "last.safetensors":  # not the one of the untrained network
            elsewhere(folder, 2)
        return done

    monkeypatch.setattr(run, last_act, frozen)
    with pytest.raises(Held, match="was taken over"):
        train(tmp_path)
    assert not (folder / missing).exists() and (folder / "resume.safetensors").exists()


def test_a_job_taken_over_at_its_end_leaves_the_sidecar_to_its_successor(tmp_path, monkeypatch):
    folder, original = tmp_path / run_id(settings_of()), run.write_json

    def frozen(*given):
        original(*given)
        elsewhere(folder, 2)

    monkeypatch.setattr(run, "write_json", frozen)
    with pytest.raises(Held, match="was taken over"):
        train(tmp_path)
    assert (folder / "resume.safetensors").exists()
