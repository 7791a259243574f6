"""What a JSON schema finds wrong with a study, one line each: `KEY: what was found, what is wanted`."""

import difflib
import math
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

SCHEMA = Path(__file__).with_name("config") / "schema.yaml"


class StudyError(ValueError):
    """A study that cannot be run; the text has one line for each fault."""


@cache
def schema() -> dict:
    """The JSON schema of a study file."""
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def nearest(found: object, known: Iterable[object]) -> str:
    """', did you mean 'batch_size'?' when a known name is close, else ''."""
    close = difflib.get_close_matches(str(found), [str(name) for name in known], n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def where(path: Iterable[str | int]) -> str:
    """Place of a value in the file: ('seeds', 1) -> 'seeds[1]'."""
    place = ""
    for part in path:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    return place


def schema_faults(config: dict) -> list[str]:
    """One 'KEY: fault' for everything that the schema forbids."""
    # jsonschema repeats itself when several keys are missing, and lets NaN pass every bound
    return list(dict.fromkeys([*_schema_faults(config), *_number_faults(config, ())]))


def _number_faults(value: Any, path: tuple[str | int, ...]) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{where(path)}: found {value}, wanted a finite number"
    if isinstance(value, dict | list):
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _number_faults(inner, (*path, part))


def _schema_faults(config: dict) -> Iterator[str]:
    validator = jsonschema.Draft202012Validator(schema())
    for error in sorted(validator.iter_errors(config), key=lambda error: [str(part) for part in error.absolute_path]):
        place, found, wanted = where(error.absolute_path), error.instance, error.validator_value
        if error.validator == "additionalProperties":
            known = list(error.schema["properties"])
            for key in [key for key in found if key not in known]:
                hint = nearest(key, known) or f"; known keys: {', '.join(known)}"
                yield f"{where([*error.absolute_path, key])}: unknown key{hint}"
        elif error.validator == "required":
            for key in [key for key in wanted if key not in found]:
                yield f"{where([*error.absolute_path, key])}: missing"
        elif error.validator == "enum":
            yield f"{place}: found {found!r}, wanted one of {', '.join(map(str, wanted))}{nearest(found, wanted)}"
        elif error.validator == "uniqueItems":
            twice = next(value for place, value in enumerate(found) if value in found[:place])
            yield f"{place}: found {twice!r} twice, wanted distinct values"
        elif error.validator in ("minItems", "minProperties", "minLength"):
            yield f"{place}: found nothing, wanted at least one value"
        else:
            yield f"{place}: found {found!r}, wanted {wish(error.validator, wanted)}{spelling(found, wanted)}"


def wish(validator: str, wanted: Any) -> str:
    """What a schema keyword asks for, in words."""
    relation = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    if validator in relation:
        return f"a value {relation[validator]} {wanted}"
    if validator == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        return " or ".join(f"{'an' if kind[0] in 'aio' else 'a'} {kind}" for kind in kinds)
    return f"text of the form {wanted}" if validator == "pattern" else f"{validator} {wanted}"


def spelling(found: Any, wanted: Any) -> str:
    """A hint for the number that YAML takes for text: 1e-3 has no dot."""
    try:
        float(found if isinstance(found, str) and wanted in ("number", "integer") else "text")
    except ValueError:
        return ""
    return f" (YAML takes {found} for text: write it with a dot, or without quotes)"
