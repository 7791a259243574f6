"""Published extra images: read from small true-format files, half of each batch, and what is wrong with others."""

import hashlib
import json
import tracemalloc
from dataclasses import replace

import numpy as np
import public_files as made
import pytest
import torch
from studies import study

from robustgap.training import __main__ as training
from robustgap.training.checkpoint import FileFault, read_json
from robustgap.training.data import extra_sets
from robustgap.training.data.batches import batches
from robustgap.training.data.extra_sets import FIRST_INDEX, extra_file, load_extra_set
from robustgap.training.data.splits import Split, Splits
from robustgap.training.facts import DATA_SET_FACTS, EXTRA_SET_FACTS, DataFile
from robustgap.training.settings import complete
from robustgap.workflow.grid import open_plan

WRITERS = {"ti500k": lambda x, y: made.pseudo_labels(x, y, 4), "ddpm": made.npz, "edm1m": made.npz}


def cifar(name="cifar10", n=10):
    part = Split(torch.zeros(n, 3, 32, 32, dtype=torch.uint8), torch.arange(n) % 10, torch.arange(n))
    return Splits(name=name, train=part, val=part, test=part, extra=None, levels=255, num_classes=10)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def written(root, name, content, data="cifar10"):
    made.put(root, {EXTRA_SET_FACTS[name].files[data].path: content})
    return sha256(content)


@pytest.mark.parametrize("name", EXTRA_SET_FACTS)
def test_images_and_labels_are_those_of_the_file(name, tmp_path):
    pixels, labels = made.images(30, 32, 32, 3), np.arange(30) % 10
    digest = written(tmp_path, name, WRITERS[name](pixels, labels))
    extra = load_extra_set(name, cifar(), tmp_path, digest)
    assert extra.images.dtype == torch.uint8 and extra.labels.dtype == torch.int64
    assert (
        np.array_equal(extra.images.numpy(), pixels.transpose(0, 3, 1, 2)) and extra.labels.tolist() == labels.tolist()
    )
    assert extra.index.tolist() == [FIRST_INDEX + i for i in range(30)]  # no id of an image of the data set


@pytest.mark.parametrize(("size", "labelled"), [(8, 4), (5, 2)])
def test_half_of_each_batch_is_extra(size, labelled, tmp_path):
    splits, pixels = cifar(n=20), made.images(50, 32, 32, 3)
    digest = written(tmp_path, "ddpm", made.npz(pixels, np.arange(50) % 10))
    extra = load_extra_set("ddpm", splits, tmp_path, digest)
    settings = complete({"batch_size": size, "augmentation": "none", "extra_data": "ddpm"})
    seen = list(batches(settings, splits, extra, 0, torch.device("cpu")))
    assert all(len(batch.y) == size and int((batch.index < FIRST_INDEX).sum()) == labelled for batch in seen)
    own = torch.cat([batch.index[batch.index < FIRST_INDEX] for batch in seen])
    assert own.sort().values.tolist() == list(range(20))  # an epoch is one pass over the labelled images
    for batch in seen:
        added = batch.index >= FIRST_INDEX
        rows = (batch.index[added] - FIRST_INDEX).numpy()
        assert np.array_equal((batch.x[added] * 255).round().numpy(), pixels[rows].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("name", EXTRA_SET_FACTS)
def test_the_pixels_are_in_memory_once(name, tmp_path, monkeypatch):
    """The largest sets take 3 GB: NumPy's and Python's allocations stay near one copy, and torch makes none."""
    size, labels, found, read = 2000 * 3072, np.arange(2000) % 10, [], extra_sets.READERS[name]
    digest = written(tmp_path, name, WRITERS[name](made.images(2000, 32, 32, 3), labels))
    monkeypatch.setitem(extra_sets.READERS, name, lambda path: found.append(read(path)) or found[0])
    tracemalloc.start()
    try:
        extra = load_extra_set(name, cifar(), tmp_path, digest)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.shares_memory(extra.images.numpy(), found[0][0]) and size < peak < 1.25 * size


@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_batches_are_laid_out_as_from_a_copy_in_order(augmentation, tmp_path):
    splits = cifar(n=20)
    digest = written(tmp_path, "ddpm", made.npz(made.images(50, 32, 32, 3), np.arange(50) % 10))
    extra = load_extra_set("ddpm", splits, tmp_path, digest)
    settings = complete({"batch_size": 8, "augmentation": augmentation, "extra_data": "ddpm"})
    copied = replace(extra, images=extra.images.contiguous())
    both = [batches(settings, splits, part, 0, torch.device("cpu")) for part in (extra, copied)]
    for one, other in zip(*both, strict=True):
        assert torch.equal(one.x, other.x) and one.x.stride() == other.x.stride()


CASES = {
    "size": (made.images(4, 28, 28, 3), np.arange(4), "found images uint8 (4, 28, 28, 3), wanted uint8 (n, 32, 32, 3)"),
    "floats": (np.zeros((4, 32, 32, 3)), np.arange(4), "found images float64 (4, 32, 32, 3), wanted uint8"),
    "channels first": (made.images(4, 3, 32, 32), np.arange(4), "found images uint8 (4, 3, 32, 32), wanted uint8"),
    "too few labels": (made.images(4, 32, 32, 3), np.arange(3), "found labels int64 (3,), wanted 4 integers"),
    "soft labels": (made.images(4, 32, 32, 3), np.zeros(4), "found labels float64 (4,), wanted 4 integers"),
    "classes": (made.images(4, 32, 32, 3), np.arange(8, 12), "found labels 8 to 11, wanted 0 to 9"),
    "unlabelled": (made.images(4, 32, 32, 3), np.arange(-1, 3), "found labels -1 to 2, wanted 0 to 9"),
    "empty": (made.images(0, 32, 32, 3), np.arange(0), "found labels none, wanted 0 to 9"),
}


@pytest.mark.parametrize(("pixels", "labels", "told"), CASES.values(), ids=CASES)
def test_other_contents_are_one_line_that_names_the_file(pixels, labels, told, tmp_path):
    written(tmp_path, "ddpm", made.npz(pixels, labels))
    with pytest.raises(FileFault) as caught:
        load_extra_set("ddpm", cifar(), tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'cifar10_ddpm.npz'}: ") and told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_opened_only_when_the_study_names_its_checksum(tmp_path):
    evil = b"\x80\x02cposix\nsystem\n(U\x04truetR."
    digest = written(tmp_path, "ti500k", evil)
    with pytest.raises(
        FileFault, match=rf"SHA-256 found {digest}, wanted one named as extra_sha256\.ti500k in the study"
    ):
        load_extra_set("ti500k", cifar(), tmp_path)
    with pytest.raises(FileFault, match=rf"SHA256 found {digest}, wanted {'0' * 64} \(26 bytes\); delete it"):
        load_extra_set("ti500k", cifar(), tmp_path, "0" * 64)
    with pytest.raises(FileFault, match=r"found posix\.system, wanted NumPy arrays and containers only"):
        load_extra_set("ti500k", cifar(), tmp_path, digest)


def test_generated_images_need_no_checksum_but_are_held_to_one_that_is_named(tmp_path):
    content = made.npz(made.images(4, 32, 32, 3), np.arange(4))
    written(tmp_path, "edm1m", content)
    assert len(load_extra_set("edm1m", cifar(), tmp_path)) == 4
    with pytest.raises(FileFault, match=rf"1m\.npz: SHA256 found {sha256(content)}, wanted {'0' * 64}"):
        load_extra_set("edm1m", cifar(), tmp_path, "0" * 64)


@pytest.mark.parametrize("name", ["ti500k", "edm1m"])  # whose authors list no file for SVHN
def test_a_set_without_images_for_the_data_set(name):
    with pytest.raises(LookupError, match=f"extra_data: found '{name}', which has no images for svhn"):
        extra_file(name, "svhn")


@pytest.fixture
def cifar10_study(tmp_path, monkeypatch):
    """A plan on 100 + 20 images in CIFAR-10's form, which a mirror serves as the archive, half of them with extras."""
    pixels, test = made.images(100, 3072), made.images(20, 3072, seed=1)
    batches = {
        file.path: made.python2_batch(pixels, [i % 10 for i in range(100)])
        for file in DATA_SET_FACTS["cifar10"].files[:1]
    }
    batches["cifar-10-batches-py/test_batch"] = made.python2_batch(test, [i % 10 for i in range(20)])
    archive = made.tar(batches)
    made.put(tmp_path / "mirror", {"cifar-10-python.tar.gz": archive})
    whole = DataFile("cifar-10-python.tar.gz", made.md5(archive))
    table = tuple(DataFile(path, made.md5(content), archive=whole) for path, content in batches.items())
    made.install(monkeypatch, "cifar10", table)
    digest = written(tmp_path / "data", "ti500k", made.pseudo_labels(made.images(40, 32, 32, 3), np.arange(40) % 10, 4))
    config = study(
        data="cifar10",
        data_dir=str(tmp_path / "data"),
        mirrors=[(tmp_path / "mirror").as_uri()],
        extra_sha256={"ti500k": digest},
        seeds=[0],
        chunks=1,
        settings={"architecture": "cnn", "width": 2, "epochs": 2, "batch_size": 32, "inner_steps": 1},
        axes={"extra_data": ["none", "ti500k"]},
    )
    return config, tmp_path


def ran(config, root, *stage):
    plan = root / "results" / "plan.json"
    plan.parent.mkdir(exist_ok=True)
    plan.write_text(json.dumps(open_plan(config, "small")))
    return training.main([*stage, "--plan", str(plan), "--device", "cpu"])


def test_data_are_fetched_once_and_trained_on_offline(cifar10_study, capsys):
    config, root = cifar10_study
    out = root / "results" / "data" / "splits.json"
    assert ran(config, root, "data", "--out", str(out)) == 0
    assert "ti500k: 40 extra images" in capsys.readouterr().err
    sizes = {name: part["n"] for name, part in read_json(out)["splits"].items()}
    assert sizes == {"train": 98, "val": 2, "test": 20}
    (root / "mirror" / "cifar-10-python.tar.gz").unlink()
    manifest = root / "results" / "runs" / "000.json"
    assert ran({**config, "offline": True}, root, "train", "--batch", "000", "--out", str(manifest)) == 0
    assert len(read_json(manifest)["runs"]) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"offline": True}, "cifar-10-python.tar.gz: not found, and the study says offline; put the file there (md5:"),
        ({"mirrors": []}, "cifar-10-python.tar.gz: could not be downloaded (no address is known); put the file there"),
        ({"extra_sha256": {}}, "wanted one named as extra_sha256.ti500k in the study"),
    ],
)
def test_the_data_stage_ends_with_one_line(change, told, cifar10_study, capsys):
    config, root = cifar10_study
    assert ran({**config, **change}, root, "data", "--out", str(root / "results" / "data" / "splits.json")) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and told in line
    assert not (root / "results" / "data" / "splits.json").exists()
