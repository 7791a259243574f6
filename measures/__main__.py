"""`python -m measures list | new | run`: the catalogue, a new measure, one measure on one chunk of a study."""

import argparse
import json
import keyword
import re
import sys
from pathlib import Path

from measures._code import RESERVED, ROOT, names


def catalogue(as_json: bool) -> None:
    """Print every measure: as catalogue.json, or one line each."""
    from measures.core import load

    cards = {name: load(name).card() for name in names()}
    if as_json:
        print(json.dumps(cards, indent=1, allow_nan=False))
        return
    for name, card in cards.items():
        print(f"{name:20} {card['family']:11} {'+'.join(card['variants']):17}  {card['summary']}")


def new(name: str, root: Path = ROOT) -> Path:
    """Write measures/NAME.py, a working measure to start from. Raises ValueError for a name that cannot be one."""
    from measures._template import TEMPLATE

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in (*RESERVED, "all"):
        raise ValueError(f"NAME: found {name!r}, wanted lower-case letters, digits and underscores, such as my_measure")
    file = root / "measures" / f"{name}.py"
    if file.exists():
        raise ValueError(f"{file} exists: found measure {name!r}, wanted a new name")
    file.write_text(TEMPLATE.replace("NAME", name))
    return file


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m measures", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="every measure")
    listing.add_argument("--json", action="store_true", help="as catalogue.json")
    adding = commands.add_parser("new", help="write the file of a new measure")
    adding.add_argument("name")
    running = commands.add_parser("run", help="compute one measure on one chunk of a study's models")
    running.add_argument("name")
    for option, kind in (("--plan", Path), ("--chunk", str), ("--results", Path), ("--out", Path)):
        running.add_argument(option, type=kind, required=True)
    return main


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        if options.command == "list":
            catalogue(options.json)
        elif options.command == "new":
            file = new(options.name)
            print(f"wrote {file}: edit it, then name {options.name} under `measures:` in a study file")
        else:
            from measures._run import run
            from training.checkpoint import read_json

            run(options.name, read_json(options.plan), options.chunk, options.results, options.out)
    except (ValueError, LookupError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
