"""Paths as people write them, in study files and on command lines: with `~`, and with variables of the shell.

Imports no torch.
"""

import argparse
import os
import re
from pathlib import Path

VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")
LOCAL = "file://"  # of an address: what follows is a path


def at_home(path: str) -> str:
    """A path with `~` expanded. Raises ValueError for a user whose home is unknown, else a folder of that very name
    would be made."""
    written_out = os.path.expanduser(path)
    if written_out.startswith("~"):
        raise ValueError(f"found {path!r}, wanted a path: no home of {written_out.partition('/')[0]} is known")
    return written_out


def expanded(path: str) -> str:
    """A path with `~` and variables expanded. Raises ValueError as `at_home` does, and for a variable that is not
    set."""
    for match in VARIABLE.finditer(path):
        name = match[1] or match[2]
        if name not in os.environ:
            raise ValueError(f"found {path!r}, wanted a path: the variable {name} is not set")
    return os.path.expandvars(at_home(path))


def expanded_address(address: str) -> str:
    """The same for a `file://` address; a plain path becomes one, any other address stays as it is
    (http://host/~user)."""
    if "://" in address and not address.startswith(LOCAL):
        return address
    return LOCAL + os.path.abspath(expanded(address.removeprefix(LOCAL)))


class PathError(argparse.ArgumentTypeError, ValueError):
    """A path that cannot be expanded: argparse names the argument, others catch a ValueError."""


def given_path(text: str) -> Path:
    """Argument type of a path on a command line, where the shell expands variables, but not the `~` of `--out=~/x`.
    Raises PathError for a home that is not known."""
    try:
        return Path(at_home(text))
    except ValueError as error:
        raise PathError(str(error)) from error
