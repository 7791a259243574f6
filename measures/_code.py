"""Which measures exist, and the code id of each: a hash of all the source that its value depends on.

Pure `ast`: neither torch nor any measure is imported, so that the workflow can ask while it plans. The id covers the
measure's function and, transitively, every function, class and module constant of `measures` and `training` that it
uses, without comments, docstrings and annotations: what the code says, not where it lies. Where one piece of code uses
another, the id holds the position of the other in the order of the walk, never the name of its module: files may be
renamed, moved and split. An attribute called like a method in measures/_context.py counts as that method.
measures/core.py is covered by its hand-bumped CORE_VERSION.
"""

import difflib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from robustgap.measures._parsed_source import ParsedModule, parse

ROOT = Path(__file__).resolve().parent.parent
CORE = "robustgap.measures.core"
CONTEXT = "robustgap.measures._context"
RESERVED = ("core",)
PACKAGES = ("robustgap.measures.", "robustgap.training.")  # whose code an id follows


class Symbol(NamedTuple):
    """A definition at the top level of a module; name '*': all of them."""

    module: str
    name: str


class Resolved(NamedTuple):
    """A symbol's normalised source, with what its imported names stand for outside of this project, and the symbols
    that it uses, each with the name it has there."""

    source: str
    uses: list[tuple[str, Symbol]]


def names(root: Path = ROOT) -> list[str]:
    """Every measure: the files of measures/ that do not start with an underscore, core.py aside."""
    files = (root / "measures").glob("[!_]*.py")
    return sorted(file.stem for file in files if file.stem not in RESERVED)


def require(name: str, root: Path = ROOT, others: Sequence[str] = ()) -> None:
    """Raise LookupError, naming the nearest of the measures and `others`, unless `name` is a measure."""
    known = names(root)
    if name not in known:
        near = difflib.get_close_matches(name, [*known, *others], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        groups = f", or of the groups {', '.join(others)}" if others else ""
        raise LookupError(f"measure: found {name!r}, wanted one of {', '.join(known)}{groups}{hint}")


def code_id(name: str, root: Path = ROOT) -> str:
    """First 12 hex digits of SHA-256 of the normalised source behind measure `name`.

    Raises LookupError for an unknown measure, ValueError for one whose file defines no function of that name.
    """
    symbols = reachable(name, root)
    position = {symbol: k for k, symbol in enumerate(symbols)}
    texts = [
        "\n".join([f"{k}: {source}", *(f"{use} -> {position[symbol]}" for use, symbol in uses)])
        for k, (source, uses) in enumerate(symbols.values())
    ]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def reachable(name: str, root: Path = ROOT) -> dict[Symbol, Resolved]:
    """All that measure `name` uses, in an order that depends on what the code says alone. Raises as `code_id`."""
    require(name, root)
    stack = [Symbol(f"robustgap.measures.{name}", name)]
    symbols: dict[Symbol, Resolved] = {}
    while stack:
        symbol = stack.pop()
        if symbol not in symbols:
            symbols[symbol] = _resolve(symbol, root)
            stack.extend(used for _, used in symbols[symbol].uses)
    return symbols


def constants(name: str, root: Path = ROOT) -> dict[str, object]:
    """The constants in modules of `measures` that measure `name` uses: {'DRAWS': 10, ...}."""
    values: dict[str, object] = {}
    for module, symbol in sorted(reachable(name, root)):
        if module.startswith(PACKAGES[0]) and module != CORE:
            in_module = _parsed(module, root).constants
            values |= {symbol: in_module[symbol]} if symbol in in_module else {}
    return values


def _resolve(symbol: Symbol, root: Path) -> Resolved:
    """The source of one symbol and the symbols it uses."""
    module, name = symbol
    parsed = _parsed(module, root)
    if module == CORE:
        return Resolved(f"CORE_VERSION {parsed.constants.get('CORE_VERSION')}", [])
    if name == "*":
        return Resolved("", [(defined, Symbol(module, defined)) for defined in sorted(parsed.definitions)])
    if name not in parsed.definitions:
        if module == f"robustgap.measures.{name}":
            raise ValueError(f"measures/{name}.py: found no function {name!r}, wanted one of the file's name")
        return Resolved("", [(name, Symbol(module, "*"))])  # made at run time
    definition = parsed.definitions[name]
    firsts = sorted({use.split(".")[0] for use in definition.uses} & set(parsed.imports))
    foreign = [first for first in firsts if not f"{parsed.imports[first]}.".startswith(PACKAGES)]
    imports = "".join(f"\n{first} = {parsed.imports[first]}" for first in foreign)
    uses = [(use, used) for use in sorted(definition.uses) for used in _follow(use, module, parsed, root)]
    return Resolved(definition.source + imports, uses)


def _follow(use: str, module: str, parsed: ParsedModule, root: Path) -> list[Symbol]:
    """Symbols behind a dotted name as it is written in `module`: 'attacks.pgd' -> (robustgap.training.attacks, pgd)."""
    first, *rest = use.split(".")
    if first in parsed.definitions:
        return [Symbol(module, first)]
    if first not in parsed.imports:
        # whatever a context is called here, an attribute with the name of one of its methods counts as that method
        return [Symbol(CONTEXT, f"Context.{name}") for name in rest if name in _context_methods(root)]
    target = parsed.imports[first].split(".") + rest
    for length in range(len(target), 0, -1):
        path = ".".join(target[:length])
        if path == CORE:
            return [Symbol(CORE, "*")]
        if _file(path, root) is not None:
            return [_origin(Symbol(path, target[length]), root) if length < len(target) else Symbol(path, "*")]
    return []


def _origin(symbol: Symbol, root: Path) -> Symbol:
    """The symbol where it is defined: a module may re-export what it imports."""
    parsed = _parsed(symbol.module, root)
    if symbol.name in parsed.definitions:
        return symbol
    return next(iter(_follow(symbol.name, symbol.module, parsed, root)), symbol)


def _parsed(module: str, root: Path) -> ParsedModule:
    file = _file(module, root)
    assert file is not None, module
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    return parse(file.read_text(encoding="utf-8"), package)


def _context_methods(root: Path) -> list[str]:
    """Names of the methods of Context."""
    defined = _parsed(CONTEXT, root).definitions
    return [name.removeprefix("Context.") for name in defined if name.startswith("Context.")]


def _file(module: str, root: Path) -> Path | None:
    if not module.startswith(PACKAGES):
        return None
    path = root.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
