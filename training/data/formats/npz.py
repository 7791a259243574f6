"""Generated images as NumPy archives with arrays `image` (n, h, w, 3) uint8 and `label` (n,): the format of Rebuffi et
al. (arXiv:2103.01946), Gowal et al. (NeurIPS 2021) and Wang et al. (ICML 2023)."""

from pathlib import Path

import numpy as np

from robustgap.training.checkpoint import FileFault


def generated(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """`image` and `label` as they are in the file, nothing unpickled.

    Raises FileFault naming the file when it is not an intact archive (each array carries a CRC) or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["image"], arrays["label"]
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes can raise any exception
        reason = " ".join(str(error).split())
        raise FileFault(f"{path}: not a whole .npz file with arrays image and label ({reason})") from error
