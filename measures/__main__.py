"""`python -m robustgap.measures list | card | new | run`: list the catalogue, show one card, start a new measure,
compute measures on a chunk."""

import argparse
import json
import keyword
import os
import re
import sys
from pathlib import Path

from robustgap.measures._code import RESERVED, ROOT, names
from robustgap.training.paths import given_path

PLAN_KEYS = ("study", "runs", "models", "chunks")


def catalogue(as_json: bool) -> None:
    """Print all measures: as catalogue.json, or one line each."""
    from robustgap.measures._cards import catalogue_entry, summary_lines

    if as_json:
        print(json.dumps({name: catalogue_entry(name) for name in names()}, indent=1, allow_nan=False))
    else:
        print("\n".join(summary_lines()))


def new(name: str, root: Path = ROOT) -> Path:
    """Write measures/NAME.py, a working measure to start from. Raises ValueError for an invalid or existing name, and
    outside a checkout."""
    from robustgap.measures._template import TEMPLATE
    from robustgap.measures.core import groups

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in (*RESERVED, *groups()):
        raise ValueError(f"NAME: found {name!r}, wanted lower-case letters, digits and underscores, such as my_measure")
    if not (root / "Snakefile").is_file():
        raise ValueError(
            f"{root / 'measures'}: found an installed package, wanted a checkout of the project; elsewhere decorate"
            " your own function with @measure and pass it to evaluate: names=[my_measure]"
        )
    file = root / "measures" / f"{name}.py"
    if file.exists():
        raise ValueError(f"{file} exists: found measure {name!r}, wanted a new name")
    file.write_text(TEMPLATE.replace("NAME", name), encoding="utf-8")
    return file


def parser(prog: str = "python -m robustgap.measures") -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog=prog, description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    list_command = commands.add_parser("list", help="list all measures")
    list_command.add_argument("--json", action="store_true", help="as catalogue.json")
    card_command = commands.add_parser("card", help="show everything about one measure")
    card_command.add_argument("name")
    new_command = commands.add_parser("new", help="write the file of a new measure")
    new_command.add_argument("name")
    run_command = commands.add_parser("run", help="compute measures on one chunk of a study's models")
    run_command.add_argument("names", metavar="NAME[,NAME...]", help="measures, families (such as margin), or all")
    for option, kind in (("--plan", given_path), ("--chunk", str), ("--results", given_path)):
        run_command.add_argument(option, type=kind, required=True)
    run_command.add_argument(
        "--out",
        type=lambda text: str(given_path(text)),
        help="table to write; for several measures with {name} in it (default: RESULTS/measures/{name}/CHUNK.csv)",
    )
    run_command.add_argument(
        "--target-se", type=float, metavar="X", help="mean-type measures: stop at a standard error of at most X"
    )
    return root


def main(arguments: list[str] | None = None, prog: str = "python -m robustgap.measures") -> int:
    options = parser(prog).parse_args(arguments)
    try:
        if options.command == "list":
            catalogue(options.json)
        elif options.command == "card":
            from robustgap.measures._cards import card

            print(card(options.name))
        elif options.command == "new":
            file = new(options.name)
            print(f"wrote {file}: edit it, then name {options.name} under `measures:` in a study file")
        else:
            from robustgap.measures._chunk import run
            from robustgap.training.checkpoint import read_json

            words = [name.strip() for name in options.names.split(",") if name.strip()]
            plan = read_json(options.plan)
            if missing := [key for key in PLAN_KEYS if not isinstance(plan, dict) or key not in plan]:
                raise ValueError(f"{options.plan}: found no {missing[0]}, wanted a plan ({', '.join(PLAN_KEYS)})")
            run(words, plan, options.chunk, options.results, options.out, target_se=options.target_se)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, LookupError, OSError) as error:
        if isinstance(error, KeyError | IndexError):  # no message for the user but a bug
            raise
        print(f"error: {error.args[0] if isinstance(error, LookupError) else error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
