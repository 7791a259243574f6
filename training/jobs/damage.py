"""Handles damaged files of a study: reports them, and makes the jobs that wrote them run again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from robustgap.training.checkpoint import FileFault
from robustgap.training.jobs.frozen_images import OutcomesFault
from robustgap.training.jobs.plan import entry_of
from robustgap.training.settings import DAMAGED, Plan


def mark(file: Path) -> None:
    """Make the job that wrote a file run again: mark the file by its modification time. It is removed when Snakemake
    ends (`Jobs.remove_damaged`), since removing it now would abort the workflow at the next job that reads it."""
    with suppress(FileNotFoundError):
        os.utime(file, (DAMAGED, DAMAGED))


@contextmanager
def rerun_if_damaged(plan: Plan, results: Path, model_id: str) -> Iterator[None]:
    """Context in which a model is used. A FileFault about its files is raised again with advice, after making the
    workflow rerun the job that wrote the damaged file; that job keeps all intact results.

    If a run's weights, log or record are damaged, the manifest of its batch is removed. The chunk's table is marked in
    any case, because Snakemake does not remake inputs of a table that exists. A foreign model's own files cannot be
    made again.
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
        for table in results.glob(f"outcomes/**/{entry['chunk']}.parquet"):
            mark(table)
        raise type(error)(f"{error}: run again, and it is {done} anew") from error
