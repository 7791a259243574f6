"""One way to find plugins by name: a decorator that files a function under its own (or a given) name."""

import difflib
from collections.abc import Callable
from typing import Any


class Registry(dict[str, Any]):
    """Functions by name. `Registry("attack")["pdg"]` raises a LookupError that names the nearest known attack."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def register(self, name: str | None = None) -> Callable:
        """Decorator: file the function under `name` (default: its own). Raises ValueError if the name is taken."""

        def file(function: Callable) -> Callable:
            key = name or function.__name__
            if key in self:
                raise ValueError(f"{self.kind} {key!r} is registered twice")
            self[key] = function
            return function

        return file

    def __missing__(self, key: str) -> Any:
        near = difflib.get_close_matches(str(key), self, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise LookupError(f"{self.kind} {key!r} is unknown{hint} (known: {', '.join(sorted(self))})")
