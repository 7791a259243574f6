"""Public files: fetched from mirrors in their order, compared before use, never replaced by what is wrong."""

import public_files as made
import pytest

from robustgap.training.checkpoint import FileFault
from robustgap.training.data import fetch as files
from robustgap.training.data.fetch import fetch, verified
from robustgap.training.facts import DATA_SET_FACTS, DataFile

CONTENT = b"pixels and labels" * 100
PAGE = b"\n<!DOCTYPE html><html><body>Sign in to continue</body></html>"


def served(folder, name="set/images.bin", content=CONTENT):
    """A mirror: the address of a folder that holds a file."""
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(content)
    return folder.as_uri()


def wanted(*urls):
    return DataFile("set/images.bin", made.md5(CONTENT), urls)


def test_a_mirror_of_the_study_is_asked_before_the_published_addresses(tmp_path):
    mirror, root = served(tmp_path / "mirror"), tmp_path / "data"
    fetch(root, wanted("file:///nowhere/images.bin"), [f"{mirror}/"])
    assert verified(root, wanted()) == root / "set/images.bin"
    assert [file.name for file in (root / "set").iterdir()] == ["images.bin"]


def test_addresses_are_tried_until_one_has_the_right_file(tmp_path):
    short, page = served(tmp_path / "short", content=CONTENT[:-1]), served(tmp_path / "page", content=PAGE)
    right = served(tmp_path / "right")
    fetch(tmp_path, wanted(f"{page}/set/images.bin", f"{right}/set/images.bin"), [short])
    assert (tmp_path / "set/images.bin").read_bytes() == CONTENT


def test_nothing_right_is_one_line_with_the_checksums_and_leaves_nothing(tmp_path):
    short, page = served(tmp_path / "short", content=CONTENT[:-1]), served(tmp_path / "page", content=PAGE)
    with pytest.raises(FileFault) as caught:
        fetch(tmp_path, wanted(f"{page}/set/images.bin", "nonsense", "file:///nowhere/images.bin"), [short])
    told, right = str(caught.value), made.md5(CONTENT).removeprefix("md5:")
    assert f"MD5 found {made.md5(CONTENT[:-1]).removeprefix('md5:')}, wanted {right} (1,699 bytes)" in told
    assert f"MD5 found {made.md5(PAGE).removeprefix('md5:')}, wanted {right} (an HTML page)" in told
    assert "nonsense: unknown url type" in told and "file:///nowhere/images.bin: " in told
    assert told.startswith(f"{tmp_path / 'set/images.bin'}: could not be downloaded (") and "\n" not in told
    assert list((tmp_path / "set").iterdir()) == []


def test_offline_asks_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "download", None)
    with pytest.raises(
        FileFault, match=r"images\.bin: not found, and the study says offline; put the file there \(md5:"
    ):
        fetch(tmp_path, wanted("http://example.org/images.bin"), [served(tmp_path / "mirror")], offline=True)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/images.bin").write_bytes(CONTENT)
    fetch(tmp_path, wanted(), offline=True)


@pytest.mark.parametrize(
    ("content", "told"), [(CONTENT[:-1], "(1,699 bytes)"), (PAGE, "(an HTML page)"), (b"", "(0 bytes)")]
)
def test_a_wrong_file_is_named_with_both_checksums_and_left_alone(content, told, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/images.bin").write_bytes(content)
    fetch(tmp_path, wanted(), [served(tmp_path / "mirror")])  # never overwrites what somebody put there
    with pytest.raises(FileFault) as caught:
        verified(tmp_path, wanted())
    found, right = (made.md5(some).removeprefix("md5:") for some in (content, CONTENT))
    place = tmp_path / "set/images.bin"
    assert str(caught.value) == f"{place}: MD5 found {found}, wanted {right} {told}; delete it to fetch it again"


def test_a_missing_file_says_who_fetches_it(tmp_path):
    with pytest.raises(FileFault, match=r"images\.bin: not found; `python -m robustgap.training data` fetches it"):
        verified(tmp_path, wanted())


def test_members_are_unpacked_from_an_archive_after_its_checksum(tmp_path):
    whole = made.tar({"set/images.bin": CONTENT, "../evil": b"x"})
    archive = DataFile("set.tar.gz", made.md5(whole))
    file = DataFile("set/images.bin", made.md5(CONTENT), archive=archive)
    mirror = served(tmp_path / "mirror", "set.tar.gz", whole)
    root = tmp_path / "data"
    fetch(root, file, [mirror])
    assert verified(root, file).read_bytes() == CONTENT
    assert sorted(path.name for path in root.rglob("*")) == ["images.bin", "set", "set.tar.gz"]
    with pytest.raises(FileFault, match=r"set\.tar\.gz: holds no file set/labels"):
        fetch(root, DataFile("set/labels", made.md5(b""), archive=archive), offline=True)
    (root / "set.tar.gz").write_bytes(whole[:-5])
    (root / "set/images.bin").unlink()
    with pytest.raises(FileFault, match=r"set\.tar\.gz: MD5 found [0-9a-f]{32}, wanted [0-9a-f]{32}"):
        fetch(root, file, offline=True)


def test_a_file_without_a_known_checksum_is_taken_as_it_is(tmp_path):
    file = DataFile("set/images.bin", "")
    fetch(tmp_path, file, [served(tmp_path / "mirror")])
    assert verified(tmp_path, file).read_bytes() == CONTENT


def test_the_published_table_is_torchvisions():
    from robustgap.training.robustbench._compat import import_torchvision

    source = import_torchvision().datasets
    for name, cls in (("cifar10", source.CIFAR10), ("cifar100", source.CIFAR100)):
        listed = [(f"{cls.base_folder}/{batch}", f"md5:{md5}") for batch, md5 in [*cls.train_list, *cls.test_list]]
        assert [(file.path, file.checksum) for file in DATA_SET_FACTS[name].files] == listed
        archive = DataFile(cls.filename, f"md5:{cls.tgz_md5}", (cls.url,))
        assert all(file.archive == archive for file in DATA_SET_FACTS[name].files)
    for name, cls in (("mnist", source.MNIST), ("fashion_mnist", source.FashionMNIST)):
        for file, (resource, md5) in zip(DATA_SET_FACTS[name].files, cls.resources, strict=True):
            assert (file.path, file.checksum) == (f"{cls.__name__}/raw/{resource}", f"md5:{md5}")
            assert file.urls == tuple(mirror + resource for mirror in cls.mirrors)
    for file, part in zip(DATA_SET_FACTS["svhn"].files, ("train", "test"), strict=True):
        url, name, md5 = source.SVHN.split_list[part]
        assert (file.path, file.checksum, file.urls) == (name, f"md5:{md5}", (url,))
