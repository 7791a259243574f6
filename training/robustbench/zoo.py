"""Models of RobustBench (Croce et al., NeurIPS 2021 Datasets and Benchmarks) from checkpoints on disk.

robustbench reads MODEL_DIR/DATASET/THREAT/NAME.pt (an ensemble: NAME.pt_m0.pt, NAME.pt_m1.pt, ...). Nothing is ever
downloaded here, and files are read with weights_only=True: a checkpoint that holds anything but tensors and plain
containers is refused.
"""

import difflib
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustgap.training.checkpoint import FileFault
from robustgap.training.robustbench._compat import import_robustbench
from robustgap.training.settings import Entry


def _registry(dataset: str, threat: str) -> dict[str, Entry]:
    """robustbench's entries for a data set and threat model. Raises LookupError naming the known ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations in robustbench's own code
        import_robustbench()
        from robustbench.model_zoo import model_dicts

    known: dict[tuple[str, str], dict[str, Entry]] = {
        (d.value, t.value): entries for d, threats in model_dicts.items() for t, entries in threats.items()
    }
    if (dataset, threat) not in known:
        choices = ", ".join("/".join(key) for key in known)
        raise LookupError(f"robustbench: found {dataset}/{threat}, wanted one of {choices}")
    return known[dataset, threat]


def model_names(dataset: str, threat: str) -> list[str]:
    """Names of all registered models: model_names("cifar10", "Linf") -> ["Addepalli2021Towards_RN18", ...]."""
    return sorted(_registry(dataset, threat))


def checkpoint_files(entry: Entry, model_dir: Path) -> list[Path]:
    """The files an entry is read from: one, or one for each member of an ensemble.

    Raises LookupError for an unknown name, ValueError for a model without files, FileNotFoundError for a missing one.
    """
    name, dataset, threat = entry["name"], entry["dataset"], entry["threat"]
    registry = _registry(dataset, threat)
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise LookupError(f"robustbench {dataset}/{threat}: model {name!r} is unknown{hint}")
    source = registry[name]["gdrive_id"]
    if source is None:
        raise ValueError(f"robustbench {dataset}/{threat}: {name} downloads its own weights and has no checkpoint file")
    path = model_dir / dataset / threat / f"{name}.pt"
    files = [Path(f"{path}_m{i}.pt") for i in range(len(source))] if isinstance(source, list) else [path]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: not found; wanted the checkpoint of robustbench's {name}")
    return files


@contextmanager
def _safe_loading() -> Iterator[None]:
    """torch.load reads tensors and plain containers only, whatever its caller or the environment asks for."""
    original = torch.load

    def load(file: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return original(file, *arguments, **{**options, "weights_only": True})
        except Exception as error:  # bytes that are not a checkpoint can raise any exception
            if isinstance(error, pickle.UnpicklingError):
                reason = _one_line(str(error.__context__ or error))  # torch wraps the reason in a page of advice
                raise FileFault(f"{file}: refused, wanted tensors and plain containers only ({reason})") from error
            raise FileFault(
                f"{file}: truncated or not a checkpoint ({type(error).__name__}: {_one_line(str(error))})"
            ) from error

    torch.load = load  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load = original


def _one_line(text: str) -> str:
    """The first sentence of the text of an error, on one line."""
    return " ".join(text.split()).split(". ")[0].rstrip(".")[:200]


def load_robustbench(entry: Entry, model_dir: Path | str = "models") -> nn.Module:
    """The model of an entry {"name", "dataset", "threat"} in eval mode: images in [0, 1] in, logits out.

    Raises LookupError for an unknown entry, FileNotFoundError naming the missing checkpoint, and FileFault (a
    ValueError) naming the file when it is truncated, refused by safe loading, or does not fit the architecture; each
    message is one line.
    """
    files = checkpoint_files(entry, Path(model_dir))
    from robustbench.utils import load_model as robustbench_load

    try:
        with _safe_loading(), torch.random.fork_rng(devices=[]):
            model: nn.Module = robustbench_load(entry["name"], str(model_dir), entry["dataset"], entry["threat"])
    except FileFault:
        raise
    except Exception as error:  # third-party code: a bad checkpoint or a missing GPU can raise any exception
        reason = f"{type(error).__name__}: {_one_line(str(error))}"
        raise FileFault(f"{files[0]}: robustbench cannot load {entry['name']} ({reason})") from error
    return model.eval()
