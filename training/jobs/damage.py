"""Handles damaged files of a study: reports them, and makes the jobs that wrote them run again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from robustgap.training.checkpoint import FileFault
from robustgap.training.jobs.frozen_images import OutcomesFault
from robustgap.training.jobs.plan import entry_of
from robustgap.training.settings import DAMAGED, Plan


def mark(made: Path) -> None:
    """Make the job that wrote a file run again. The file is marked by its modification time, and removed when Snakemake
    ends (`Jobs.remove_damaged`): removing it at once would abort the workflow at the next job that reads it."""
    with suppress(FileNotFoundError):
        os.utime(made, (DAMAGED, DAMAGED))


@contextmanager
def rerun_if_damaged(plan: Plan, results: Path, model_id: str) -> Iterator[None]:
    """Context in which a model is used. A FileFault about it is raised again with advice, after removing what depends
    on the damaged file, so that the workflow reruns the job that made it; that job keeps all intact results.

    If a run's weights, log or record are damaged, the manifest of its batch is removed. The chunk's table is removed in
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
        mark(results / "outcomes" / f"{entry['chunk']}.parquet")
        raise type(error)(f"{error}: run again, and it is {done} anew") from error
