"""The true loaders on small files in the true formats of the public data sets."""

import numpy as np
import public_files as made
import pytest
import torch

from robustgap.training.checkpoint import FileFault
from robustgap.training.data.datasets import DATASETS
from robustgap.training.data.formats import folders, idx, mat, npz, pickles
from robustgap.training.facts import DATA_SET_FACTS


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Write files of a data set into a fresh data_dir and put their checksums into the table; its loader's splits."""

    def put(name, members):
        made.install(monkeypatch, name, made.put(tmp_path, members))
        return DATASETS[name](tmp_path)

    return put


def check(splits, train, test, num_classes):
    """One training image in fifty is for validation; all others are there once, each with its label; test in order."""
    images, labels = train
    assert (splits.num_classes, splits.levels, splits.extra) == (num_classes, 255, None)
    assert len(splits.val) == len(labels) // 50 and len(splits.train) == len(labels) - len(splits.val)
    both = torch.cat([splits.train.index, splits.val.index])
    assert torch.equal(both.sort().values, torch.arange(len(labels)))
    for part in (splits.train, splits.val):
        assert part.images.dtype == torch.uint8 and part.labels.dtype == torch.int64
        assert np.array_equal(part.images.numpy(), images[part.index.numpy()])
        assert part.labels.tolist() == [labels[i] for i in part.index.tolist()]
    assert np.array_equal(splits.test.images.numpy(), test[0]) and splits.test.labels.tolist() == list(test[1])
    assert splits.test.index.tolist() == list(range(len(test[1])))


def test_cifar10(install):
    pixels, labels = made.images(120, 3072), [i % 10 for i in range(120)]
    batches = {f"cifar-10-batches-py/data_batch_{b + 1}": slice(24 * b, 24 * b + 24) for b in range(5)}
    members = {name: made.python2_batch(pixels[rows], labels[rows]) for name, rows in batches.items()}
    test = made.images(7, 3072, seed=1)
    members["cifar-10-batches-py/test_batch"] = made.python2_batch(test, range(7))
    splits = install("cifar10", members)
    check(splits, (pixels.reshape(-1, 3, 32, 32), labels), (test.reshape(-1, 3, 32, 32), range(7)), 10)


def test_cifar100_has_its_fine_classes(install):
    pixels, labels, test = made.images(100, 3072), [i % 100 for i in range(100)], made.images(5, 3072, seed=1)
    members = {
        "cifar-100-python/train": made.python2_batch(pixels, labels, b"fine_labels"),
        "cifar-100-python/test": made.python2_batch(test, [99, 0, 50, 3, 7], b"fine_labels"),
    }
    splits = install("cifar100", members)
    check(splits, (pixels.reshape(-1, 3, 32, 32), labels), (test.reshape(-1, 3, 32, 32), [99, 0, 50, 3, 7]), 100)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx(name, folder, install):
    pixels, test = made.images(100, 28, 28), made.images(6, 28, 28, seed=1)
    labels, test_labels = np.arange(100, dtype=np.uint8) % 10, np.arange(6, dtype=np.uint8)
    contents = (made.idx(pixels), made.idx(labels), made.idx(test), made.idx(test_labels))
    splits = install(name, dict(zip([file.path for file in DATA_SET_FACTS[name].files], contents, strict=True)))
    assert DATA_SET_FACTS[name].files[0].path.startswith(f"{folder}/raw/train-images-idx3")
    check(splits, (pixels[:, None], labels), (test[:, None], test_labels), 10)


def test_svhn_calls_the_digit_0_class_0(install):
    pixels, labels, test = made.images(100, 3, 32, 32), np.arange(100) % 10, made.images(10, 3, 32, 32, seed=1)
    members = {"train_32x32.mat": made.mat(pixels, labels), "test_32x32.mat": made.mat(test, np.arange(10))}
    check(install("svhn", members), (pixels, labels), (test, np.arange(10)), 10)


COLOURS = {"n03": (200, 40, 90), "n01": (10, 220, 30), "n02": (250, 250, 0)}


def tiny():
    train = {name: [made.jpeg(colour)] * 20 for name, colour in COLOURS.items()}
    train["n02"][19] = made.jpeg(100, mode="L")  # number 20 + 11 where names are sorted as text: 0, 1, 10, ... 19, 2
    return made.image_folders(train, [("n02", made.jpeg(COLOURS["n02"])), ("n03", made.jpeg(COLOURS["n03"]))])


def test_tiny_imagenet(install):
    splits = install("tiny_imagenet", {"tiny-imagenet-200.zip": tiny()})
    assert splits.num_classes == 200 and splits.train.images.shape == (59, 3, 64, 64) and len(splits.val) == 1
    colours = np.array([COLOURS[name] for name in sorted(COLOURS)])
    for part in (splits.train, splits.val, splits.test):
        found = part.images.double().mean(dim=(2, 3)).numpy()
        grey = np.array([part is not splits.test and i == 31 for i in part.index.tolist()])
        assert np.abs(found[~grey] - colours[part.labels.numpy()][~grey]).max() < 4  # JPEG loses a little
        assert np.abs(found[grey] - 100).max(initial=0) < 2
    assert torch.bincount(torch.cat([splits.train.labels, splits.val.labels])).tolist() == [20, 20, 20]
    assert splits.test.labels.tolist() == [1, 2]


def test_tiny_imagenet_is_decoded_once(tmp_path, capsys, monkeypatch):
    archive, cache = tmp_path / "tiny-imagenet-200.zip", tmp_path / "tiny-imagenet-200.safetensors"
    archive.write_bytes(tiny())
    first = folders.read_cached(archive, "md5:1")
    with monkeypatch.context() as patch:
        patch.setattr(folders, "read_folders", None)  # nothing is decoded now
        again = folders.read_cached(archive, "md5:1")
    assert all(torch.equal(first[key], again[key]) for key in first) and capsys.readouterr().err == ""
    cache.write_bytes(cache.read_bytes()[:-100])
    assert torch.equal(folders.read_cached(archive, "md5:1")["train_images"], first["train_images"])
    assert "not a complete safetensors file" in capsys.readouterr().err
    folders.read_cached(archive, "md5:2")
    assert "made of another zip file: decoding" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", range(6))
def test_pseudo_labels_of_every_pickle_protocol(protocol, tmp_path):
    pixels, labels = made.images(9, 32, 32, 3), np.arange(9) % 10
    (tmp_path / "ti.pickle").write_bytes(made.pseudo_labels(pixels, labels, protocol))
    found = pickles.pseudo_labelled(tmp_path / "ti.pickle")
    assert np.array_equal(found[0], pixels) and np.array_equal(found[1], labels)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x80\x02cposix\nsystem\n(U\x04truetR.", "found posix.system, wanted NumPy arrays and containers only"),
        (b"\x80\x02cbuiltins\neval\n(U\x011tR.", "found builtins.eval, wanted NumPy arrays"),
        (b"\x80\x02c_codecs\nencode\n(U\x011U\x05rot13tR.", "wanted latin1"),
        (b"\x80\x02cnumpy\nload\n(U\x011tR.", "found numpy.load, wanted NumPy arrays"),
        (b"\x80\x02K\x01.", "found int, wanted a dictionary"),
        (b"\x80\x02}.", "found entries , wanted data"),
        (b"\x80\x02}U\x04da", "refused, pickle data was truncated"),
        (b"<!DOCTYPE html>", "refused, invalid load key"),
    ],
)
def test_the_unpickler_admits_arrays_alone(content, told, tmp_path):
    (tmp_path / "evil.pickle").write_bytes(content)
    with pytest.raises(FileFault) as caught:
        pickles.pseudo_labelled(tmp_path / "evil.pickle")
    assert told in str(caught.value) and "evil.pickle: " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("read", "content", "told"),
    [
        (idx.read_idx, b"<html>", "not an IDX file compressed with gzip"),
        (idx.read_idx, made.idx(made.images(4, 3))[:-9], "not an IDX file compressed with gzip"),
        (idx.read_idx, made.gzipped(b"\0\0\x08\x01\0\0\0\x05abc"), "found 3 values of type 8, wanted (5,) of type 8"),
        (idx.read_idx, made.gzipped(b"\0\0\x0d\x01\0\0\0\x01abcd"), "found 4 values of type 13, wanted (1,)"),
        (mat.read_mat, b"<html>" * 100, "not a MATLAB file with X and y"),
        (folders.read_folders, b"<html>", "not the zip file of tiny-imagenet-200"),
        (folders.read_folders, made.npz(1, 2), "not the zip file of tiny-imagenet-200"),
        (npz.generated, b"<html>", "not a whole .npz file with arrays image and label"),
        (npz.generated, made.npz(made.images(4, 3), np.arange(4))[:-30], "not a whole .npz file"),
        (npz.generated, made.npz(np.array([{}]), 2), "not a whole .npz file"),  # a pickled object
    ],
)
def test_what_is_no_such_file_is_one_line(read, content, told, tmp_path):
    (tmp_path / "wrong").write_bytes(content)
    with pytest.raises(FileFault) as caught:
        read(tmp_path / "wrong")
    assert told in str(caught.value) and str(caught.value).startswith(f"{tmp_path / 'wrong'}: ")
    assert "\n" not in str(caught.value)
