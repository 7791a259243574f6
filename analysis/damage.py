"""Damaged files of a study's results: moved aside, so that the workflow makes them anew."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def made_anew(file: Path, asked: Path | None = None) -> Iterator[None]:
    """To read a file of a study's results inside. A ValueError goes on with what to do, after the file was moved aside,
    and with it `asked`, the output of the same job that other jobs ask for: for want of any other none is run again.

    Both stay as NAME.damaged: what seems damaged may be of another version, and what made it may be gone.

    A file that belongs to no study (at most two folders below a plan.json), such as one of the shipped ledger, stays.
    """
    try:
        yield
    except ValueError as error:
        if not any((folder / "plan.json").is_file() for folder in list(file.absolute().parents)[:3]):
            raise
        for path in {file, asked or file}:
            with suppress(FileNotFoundError):
                path.replace(path.with_name(f"{path.name}.damaged"))
        raise ValueError(f"{error}; moved it aside: run again, and it is made anew") from error
