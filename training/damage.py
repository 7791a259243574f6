"""Damaged files of a study: named, and what depends on them removed, so that running again makes them anew."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.checkpoint import FileFault
from training.planned import OutcomesFault, entry_of


@contextmanager
def made_anew(plan: dict, results: Path, model_id: str) -> Iterator[None]:
    """To work with a model inside. A FileFault about it goes on with what to do, after the output of the job that made
    the damaged file was removed: the workflow runs that job again, and the job keeps all that is whole.

    Kept outcomes: the table of the chunk goes; weights, log or record of a run: the manifest of its batch. A foreign
    model's own files are not ours to make again.
    """
    try:
        yield
    except FileFault as error:
        entry = entry_of(plan, model_id)
        if isinstance(error, OutcomesFault):
            output, done = results / "outcomes" / f"{entry['chunk']}.parquet", "made"
        elif entry["source"] == "grid":
            output, done = results / "runs" / f"{plan['runs'][entry['run']]['batch']}.json", "trained"
        else:
            raise
        output.unlink(missing_ok=True)
        raise type(error)(f"{error}; removed {output}: run again, and it is {done} anew") from error
