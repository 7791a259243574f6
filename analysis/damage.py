"""Damaged files of a study's results: removed, so that the workflow makes them anew."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def made_anew(file: Path, asked: Path | None = None) -> Iterator[None]:
    """To read a file of a study's results inside. A ValueError goes on with what to do, after the file was removed, and
    with it `asked`, the output of the same job that other jobs ask for: for want of any other none is run again.

    A file that belongs to no study (at most two folders below a plan.json), such as one of the shipped ledger, stays.
    """
    try:
        yield
    except ValueError as error:
        if not any((folder / "plan.json").is_file() for folder in list(file.absolute().parents)[:3]):
            raise
        for path in (file, asked or file):
            path.unlink(missing_ok=True)
        raise ValueError(f"{error}; removed it: run again, and it is made anew") from error
