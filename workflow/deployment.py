"""What the Snakefile checks before it reads a study, as it may be a module of another Snakefile: somebody's own, or the
one that a deployment tool wrote. Each fault is one line, and ends the process.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from robustgap import __version__


def version_or_exit(file: str | Path, origin: object = None) -> None:
    """End where the rules and the installed package are of two versions.

    file: the `robustgap/__init__.py` that came with the Snakefile, at whatever tag, branch or commit; origin: where the
    Snakefile is from."""
    (version,) = re.findall(r'^__version__ = "(.+)"$', Path(file).read_text(encoding="utf-8"), re.MULTILINE)
    if version != __version__:
        where = f" ({origin})" if origin else ""
        raise SystemExit(
            f"robustgap: found version {__version__} installed, and rules of version {version}{where}, wanted one:"
            " install that version, or name the tag of this one in the Snakefile"
        )


def study_files_or_exit(
    config: Mapping, loaded: Iterable, given: Iterable, *, replaced: bool = False, main: bool = True
) -> list:
    """The files that a study was read from.

    loaded: all that Snakemake has read; given: those of `--configfile`; replaced: whether these replace what Snakefiles
    name; main: whether ours is the Snakefile that was started. Ends where it is not, and no study was passed on, or
    Snakemake merged two into one: a study of both their settings that nobody wrote."""
    loaded, given = list(loaded), list(given)
    if main:
        return loaded
    if not config:
        raise SystemExit("config: found nothing, wanted a study, such as `config: config` in the module statement")
    named = [] if replaced else [file for file in loaded if file not in given and is_study(file)]
    added = [file for file in given if is_study(file)]
    if named and added:
        raise SystemExit(
            f"{named[0]}: found a second study, {added[0]}, which Snakemake merges into this one, wanted"
            " --replace-workflow-config beside --configfile"
        )
    return [*named, *given] if named else added


def is_study(file: str | Path) -> bool:
    """Whether a file of keys and values has what every study has."""
    content: Any = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    return isinstance(content, dict) and {"study", "data", "eps"} <= set(content)


def place_or_exit(found: str, wanted: str) -> None:
    """End where the outputs of the rules would lie elsewhere than plan.json, through which jobs find each other."""
    if found != wanted:
        raise SystemExit(
            f"results: found {found}, wanted {wanted}: a module statement cannot move them, by `prefix` or `pathvars`,"
            " because jobs find plan.json there; run it in a folder of its own (snakemake --directory)"
        )
