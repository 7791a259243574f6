"""Small files in the true formats of the public data sets, and tables of their checksums.

The bytes hold no time of writing: every process that collects the tests must see the same ones.
"""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile

import numpy as np
from PIL import Image
from scipy.io import savemat

from robustgap.training.facts import DATA_SET_FACTS, DataFile


def md5(content):
    return f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"


def images(n, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def python2_batch(pixels, labels, key=b"labels"):
    """A CIFAR batch as Python 2 and the NumPy of its time pickled it: {'data': uint8 (n, 3072), key: [...]}."""
    n, raw = len(pixels), pixels.tobytes()
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K"
        + bytes([n])
        + b"M\x00\x0ct"
        + dtype
        + b"\x89T"
        + len(raw).to_bytes(4, "little")
        + raw
        + b"tb"
    )
    listed = b"]" + b"".join(b"K" + bytes([label]) + b"a" for label in labels)
    return b"\x80\x02}U\x04data" + array + b"sU" + bytes([len(key)]) + key + listed + b"s."


def gzipped(content):
    return gzip.compress(content, mtime=0)


def idx(array):
    """An IDX file of bytes, compressed: big-endian sizes after the magic number."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzipped(header + array.tobytes())


def mat(pixels, labels, compressed=False):
    """A MATLAB 5 file as of SVHN: X (32, 32, 3, n), y (n, 1) with 10 for the digit 0."""
    content = io.BytesIO()
    savemat(
        content,
        {"X": pixels.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None]},
        do_compression=compressed,
    )
    described = b"MATLAB 5.0 MAT-file".ljust(116)  # SciPy names the time here
    return described + content.getvalue()[116:]


def jpeg(colour, mode="RGB"):
    content = io.BytesIO()
    Image.new(mode, (64, 64), colour).save(content, "JPEG", quality=95)
    return content.getvalue()


def image_folders(train, val, compression=zipfile.ZIP_STORED):
    """Tiny-ImageNet's zip file: train {class: [JPEG, ...]}, val [(class, JPEG), ...]."""
    members = {"wnids.txt": "\n".join(reversed(sorted(train)))}
    for name, files in train.items():
        members[f"train/{name}/{name}_boxes.txt"] = ""
        members |= {f"train/{name}/images/{name}_{number}.JPEG": file for number, file in enumerate(files)}
    members |= {f"val/images/val_{number}.JPEG": file for number, (_, file) in enumerate(val)}
    lines = [f"val_{number}.JPEG\t{name}\t0\t0\t62\t62\n" for number, (name, _) in enumerate(val)]
    members["val/val_annotations.txt"] = "".join(lines)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(f"tiny-imagenet-200/{name}"), data, compression)  # dated 1980
    return content.getvalue()


def tar(members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def put(root, members, **urls):
    """Write {path: bytes} below root; the table that belongs to them."""
    for path, content in members.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return tuple(DataFile(path, md5(content)) for path, content in members.items())


def install(monkeypatch, name, files):
    """Put a table of files in the place of those of a published data set."""
    monkeypatch.setitem(DATA_SET_FACTS, name, DATA_SET_FACTS[name]._replace(files=files))


def pseudo_labels(pixels, labels, protocol):
    """The pickle of Carmon et al.: {'data': uint8 (n, 32, 32, 3), 'extrapolated_targets': int (n,)}."""
    return pickle.dumps({"data": pixels, "extrapolated_targets": labels}, protocol=protocol)


def npz(pixels, labels):
    content = io.BytesIO()
    np.savez(content, image=pixels, label=labels)
    return content.getvalue()
