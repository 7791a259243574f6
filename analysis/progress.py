"""A progress bar on a terminal, nothing elsewhere."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def bar(items: Iterable[Item], what: str) -> Iterator[Item]:
    """The items one by one; on a terminal stderr shows how many are done and how long the rest will take."""
    yield from tqdm(items, desc=what, disable=None, leave=False, dynamic_ncols=True)
