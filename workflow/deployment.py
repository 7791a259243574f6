"""Checks made by the Snakefile before it reads a study, which also cover its use as a module of another Snakefile: a
user's own, or one written by a deployment tool. Each fault is one line, and ends the process."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from robustgap import __version__


def version_or_exit(file: str | Path, origin: object = None) -> None:
    """Exit if the rules and the installed package have different versions.

    file: the `robustgap/__init__.py` that came with the Snakefile, at any tag, branch or commit; origin: where the
    Snakefile comes from.
    """
    (version,) = re.findall(r'^__version__ = "(.+)"$', Path(file).read_text(encoding="utf-8"), re.MULTILINE)
    if version != __version__:
        where = f" ({origin})" if origin else ""
        raise SystemExit(
            f"robustgap: found version {__version__} installed, and rules of version {version}{where}, wanted one:"
            " install that version, or name the tag of this one in the Snakefile"
        )


def study_files_or_exit(
    config: Mapping[str, Any],
    loaded: Iterable[str | Path],
    given: Iterable[str | Path],
    *,
    replaced: bool = False,
    main: bool = True,
) -> list[str | Path]:
    """The files that a study was read from.

    loaded: all files that Snakemake has read; given: those of `--configfile`; replaced: whether these replace the files
    named by Snakefiles; main: whether ours is the Snakefile that was started. Exits if it is not and no study was
    passed on, or if Snakemake merged two files into one study with settings of both, which nobody intended.
    """
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
    """Whether a mapping file has the keys that every study has."""
    content: Any = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    return isinstance(content, dict) and {"study", "data", "eps"} <= set(content)


def place_or_exit(found: str, wanted: str) -> None:
    """Exit if the outputs of the rules would lie elsewhere than plan.json, through which jobs find each other."""
    if found != wanted:
        raise SystemExit(
            f"results: found {found}, wanted {wanted}: a module statement cannot move them, by `prefix` or `pathvars`,"
            " because jobs find plan.json there; run it in a folder of its own (snakemake --directory)"
        )
