"""IDX files (LeCun, Cortes and Burges' MNIST), compressed with gzip: two zero bytes, the type (8: uint8), the number of
dimensions, each dimension as a big-endian 32-bit number, then the values."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustgap.training.checkpoint import FileFault

UINT8 = 8


def read_idx(path: Path) -> Tensor:
    """The array of an IDX file of bytes, uint8. Raises FileFault naming the file when it is not such a file, or
    truncated."""
    try:
        content = gzip.decompress(path.read_bytes())
        zero, kind, dimensions = struct.unpack(">HBB", content[:4])
        shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise FileFault(f"{path}: not an IDX file compressed with gzip ({error})") from error
    values = content[4 + 4 * dimensions :]
    if (zero, kind, len(values)) != (0, UINT8, int(np.prod(shape))):
        raise FileFault(f"{path}: found {len(values)} values of type {kind}, wanted {shape} of type {UINT8}")
    return torch.from_numpy(np.frombuffer(values, dtype=np.uint8).reshape(shape).copy())


def labelled(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    """Images uint8 (n, 1, h, w) and labels int64 (n,)."""
    return read_idx(images)[:, None], read_idx(labels).to(torch.int64)
