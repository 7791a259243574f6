"""Imports files that anybody may add: statistics and figures."""

import importlib
from types import ModuleType


def import_plugin(name: str) -> ModuleType:
    """The module of that dotted name. Raises ValueError naming file and line if it is not Python."""
    try:
        return importlib.import_module(name)
    except SyntaxError as error:
        raise ValueError(f"{error.filename}, line {error.lineno}: found {error.msg}, wanted Python") from error
