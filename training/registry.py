"""One way to find plugins by name: a decorator that registers a function under its own (or a given) name."""

import difflib
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol

Function = Callable[..., Any]


class Registry(dict[str, Any]):
    """Functions by name. `Registry("attack")["pdg"]` raises a LookupError that names the nearest known attack."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def register(self, name: str | None = None) -> Callable[[Function], Function]:
        """Decorator: register the function under `name` (default: its own). Raises ValueError if the name is taken."""

        def file(function: Function) -> Function:
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


class HasModule(Protocol):
    """An entry of facts: which module registers the function of that name."""

    @property
    def module(self) -> str: ...


class Plugins(Registry):
    """A registry whose names are those of a table of facts: both have the same entries, or an error says which lacks
    what."""

    def __init__(self, kind: str, facts: Mapping[str, HasModule]):
        super().__init__(kind)
        self.facts = facts

    def register(self, name: str | None = None) -> Callable[[Function], Function]:
        """As `Registry.register`. Raises LookupError for a function without an entry of facts."""

        def file(function: Function) -> Function:
            key = name or function.__name__
            if key not in self.facts:
                fault = f"{function.__module__}: {self.kind} {key!r}: found no entry of facts"
                raise LookupError(f"{fault}, wanted one in training/facts.py")
            return Registry.register(self, name)(function)

        return file

    def load(self) -> None:
        """Import every module that the facts name; each registers its functions. Raises LookupError for one that does
        not exist."""
        for module in dict.fromkeys(entry.module for entry in self.facts.values()):
            try:
                import_module(module)
            except ModuleNotFoundError as error:
                if error.name != module:
                    raise
                name = next(name for name, entry in self.facts.items() if entry.module == module)
                raise LookupError(
                    f"training/facts.py: {self.kind} {name!r}: found no module {module}, wanted its function there"
                ) from error

    def __missing__(self, key: str) -> Any:
        if key in self.facts:
            where = self.facts[key].module
            raise LookupError(
                f"{self.kind} {key!r}: found an entry in training/facts.py alone, wanted its function in {where}"
            )
        return super().__missing__(key)
