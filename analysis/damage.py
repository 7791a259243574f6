"""Moves damaged files of a study's results aside, so that the workflow makes them again."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def set_aside_if_damaged(file: Path, requested: Path | None = None) -> Iterator[None]:
    """Context in which a file of a study's results is read. On a ValueError the file is moved aside, and the error is
    raised again with a hint what to do. `requested` is the output of the same job that other jobs depend on; it is
    moved too, because Snakemake reruns a job only if that output is missing.

    Both files are kept as NAME.damaged: the file may come from another version rather than be damaged, and its inputs
    may be gone.

    A file outside a study (at most two folders below a plan.json), such as one of the shipped ledger, stays in place.
    """
    try:
        yield
    except ValueError as error:
        if not any((folder / "plan.json").is_file() for folder in list(file.absolute().parents)[:3]):
            raise
        for path in {file, requested or file}:
            with suppress(FileNotFoundError):
                path.replace(path.with_name(f"{path.name}.damaged"))
        raise ValueError(f"{error}; moved it aside: run again, and it is made anew") from error
