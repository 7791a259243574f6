"""MATLAB files of the Street View House Numbers (Netzer et al., 2011), cropped digits: X (32, 32, 3, n), y (n, 1)."""

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustgap.training.checkpoint import FileFault


def read_mat(path: Path) -> tuple[Tensor, Tensor]:
    """Images uint8 (n, 3, 32, 32) and labels int64 (n,); the file's class 10 is the digit 0.

    Raises FileFault naming the file when it is not a MATLAB file or lacks X or y.
    """
    from scipy.io import loadmat  # importing takes half a second, which only this data set should pay

    try:
        content = loadmat(path, variable_names=["X", "y"])
        images, labels = content["X"], content["y"]
    except (ValueError, KeyError, TypeError, NotImplementedError, zlib.error) as error:
        raise FileFault(f"{path}: not a MATLAB file with X and y ({' '.join(str(error).split())})") from error
    pixels = np.ascontiguousarray(images.transpose(3, 2, 0, 1), dtype=np.uint8)
    return torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64).flatten() % 10)
