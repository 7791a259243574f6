"""Folders of JPEG images inside a zip file: Tiny-ImageNet-200 (Stanford CS231n).

train/CLASS/images/*.JPEG, val/images/*.JPEG with val/val_annotations.txt (file, class, ...), wnids.txt (all classes).
The images are read directly from the zip file: its checksum covers each of them, and the file system need not hold
120,000 files.
"""

import io
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustgap.training.checkpoint import FileFault, load_tensors, save_tensors

FOLDER = "tiny-imagenet-200"


def _images(archive: zipfile.ZipFile, names: list[str]) -> Tensor:
    """Decoded images uint8 (n, 3, h, w); the few grey ones get three equal channels."""
    from PIL import Image

    decoded = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def read_folders(path: Path) -> dict[str, Tensor]:
    """Images and labels of the training and the validation folder, by `train_images`, `train_labels`, `test_images`,
    `test_labels` (the test folder's labels are not public). Classes are numbered in the order of their sorted names.

    Raises FileFault naming the file when it is not a zip file of that layout.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            classes = sorted(archive.read(f"{FOLDER}/wnids.txt").decode().split())
            number = {name: label for label, name in enumerate(classes)}
            train = sorted(
                name for name in archive.namelist() if name.startswith(f"{FOLDER}/train/") and "/images/" in name
            )
            train = [name for name in train if name.endswith(".JPEG")]
            lines = archive.read(f"{FOLDER}/val/val_annotations.txt").decode().splitlines()
            test = [line.split("\t")[:2] for line in lines if line]
            return {
                "train_images": _images(archive, train),
                "train_labels": torch.tensor([number[name.split("/")[2]] for name in train]),
                "test_images": _images(archive, [f"{FOLDER}/val/images/{name}" for name, _ in test]),
                "test_labels": torch.tensor([number[name] for _, name in test]),
            }
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError) as error:
        raise FileFault(f"{path}: not the zip file of {FOLDER} ({' '.join(str(error).split())})") from error


def read_cached(path: Path, made_of: str) -> dict[str, Tensor]:
    """As `read_folders`, from a decoded copy beside the zip file; made where it is missing, damaged, or from a zip file
    whose checksum is not `made_of`. Decoding takes about a minute, which no job of a study should repeat."""
    cache = path.with_suffix(".safetensors")
    if cache.exists():
        try:
            tensors, metadata = load_tensors(cache)
            if metadata.get("made_of") == made_of:
                return tensors
            raise FileFault(f"{cache}: made of another zip file")
        except FileFault as error:
            print(f"{error}: decoding {path} again", file=sys.stderr)
    tensors = read_folders(path)
    try:
        save_tensors(cache, tensors, made_of=made_of)
    except OSError as error:
        print(f"{cache}: cannot be written ({error.strerror}); each job decodes {path} itself", file=sys.stderr)
    return tensors
