"""A progress bar on a terminal, nothing elsewhere."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def bar(items: Iterable[Item], what: str) -> Iterator[Item]:
    """Yield the items; on a terminal, stderr shows how many are done and the estimated time left."""
    yield from tqdm(items, desc=what, disable=None, leave=False, dynamic_ncols=True)
