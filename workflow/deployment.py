"""Checks that the Snakefile runs before it reads a study, also as a module of another Snakefile: a user's own, or one
written by a deployment tool. A failed check prints one line and ends the process."""

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
            f"robustgap: found version {__version__} installed, but rules of version {version}{where}, wanted one:"
            " install the version of the rules, or use the tag of the installed version in the Snakefile"
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
    named in Snakefiles; main: whether ours is the Snakefile that was started. If it is not, exits when no study was
    passed on, or when Snakemake merged two studies into one.
    """
    loaded, given = list(loaded), list(given)
    if main:
        return loaded
    if not config:
        raise SystemExit("config: found nothing, wanted a study, such as `config: config` in the module statement")
    from_snakefiles = [] if replaced else [file for file in loaded if file not in given and is_study(file)]
    from_options = [file for file in given if is_study(file)]
    if from_snakefiles and from_options:
        raise SystemExit(
            f"{from_snakefiles[0]}: found a second study, {from_options[0]}, which Snakemake merges into it, wanted"
            " --replace-workflow-config beside --configfile"
        )
    return [*from_snakefiles, *given] if from_snakefiles else from_options


def is_study(file: str | Path) -> bool:
    """Whether a mapping file has the keys that every study has."""
    content: Any = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    return isinstance(content, dict) and {"study", "data", "eps"} <= set(content)


def results_folder_or_exit(folder: str, planned: str) -> None:
    """Exit if the rules would write to another folder than that of plan.json, where jobs look for their inputs."""
    if folder != planned:
        raise SystemExit(
            f"results: found {folder}, wanted {planned}: `prefix` and `pathvars` of a module cannot move them,"
            " because jobs read plan.json there; use a working directory of its own (snakemake --directory)"
        )
