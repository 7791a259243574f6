"""Damaged files of a study: named, and their makers told, so that running again makes them anew."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from robustgap.training.checkpoint import FileFault
from robustgap.training.jobs.plan import OutcomesFault, entry_of
from robustgap.training.settings import DAMAGED


def mark(made: Path) -> None:
    """Have the job that made a file run again. The file is marked by its time, and removed when Snakemake ends
    (`Jobs.remove_marked`): removed at once, it would end everything at the next job that wants to read it."""
    with suppress(FileNotFoundError):
        os.utime(made, (DAMAGED, DAMAGED))


@contextmanager
def made_anew(plan: dict, results: Path, model_id: str) -> Iterator[None]:
    """To work with a model inside. A FileFault about it goes on with what to do, after what depends on the damaged
    file was taken away, so that the workflow runs the job again that made it; that job keeps all that is whole.

    Where a run's weights, log or record are at fault, the manifest of its batch is removed. In any case the table of
    the chunk has to go, because Snakemake makes nothing that only a table that is there would need. A foreign model's
    own files are not ours to make again.
    """
    try:
        yield
    except FileFault as error:
        entry, done = entry_of(plan, model_id), "made"
        if not isinstance(error, OutcomesFault):
            if entry["source"] != "grid":
                raise
            manifest, done = results / "runs" / f"{plan['runs'][entry['run']]['batch']}.json", "trained"
            manifest.unlink(missing_ok=True)
        mark(results / "outcomes" / f"{entry['chunk']}.parquet")
        raise type(error)(f"{error}: run again, and it is {done} anew") from error
