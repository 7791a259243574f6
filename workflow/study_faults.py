"""Checks a study against the JSON schema; one line per violation, `KEY: what was found, what is wanted`."""

import math
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import jsonschema
import yaml

from robustgap.training.settings import StudyFile
from robustgap.workflow.generated import SCHEMA, schema_text
from robustgap.workflow.names import nearest


class StudyError(ValueError):
    """A study that cannot be run; the message has one line per fault."""


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of a study file: schema.yaml, names and rules of settings from their facts."""
    content: dict[str, Any] = yaml.safe_load(schema_text(SCHEMA.read_text(encoding="utf-8")))
    return content


YAML_TYPES = {"array": "a list", "object": "keys and values", "string": "text"}  # JSON types in everyday words


def as_yaml(value: Any) -> str:
    """A value as written in YAML, if that differs from Python."""
    if value is None:
        return "nothing"
    if isinstance(value, bool | list | dict):
        return " ".join(yaml.safe_dump(value, default_flow_style=True, width=1e9).removesuffix("...\n").split())
    return repr(value)


def field_name(path: Iterable[str | int]) -> str:
    """How messages name a field: ('seeds', 1) -> 'seeds[1]'."""
    field = ""
    for key in path:
        field += f"[{key}]" if isinstance(key, int) else f".{key}" if field else str(key)
    return field


def schema_faults(config: StudyFile) -> list[str]:
    """One 'KEY: fault' for everything the schema forbids."""
    # jsonschema repeats itself if several keys are missing, and lets NaN pass every bound
    return list(dict.fromkeys([*_schema_faults(config), *_number_faults(config, ())]))


def _number_faults(value: Any, path: tuple[str | int, ...]) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{field_name(path)}: found {value}, wanted a finite number"
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _number_faults(item, (*path, key))


def _schema_faults(config: StudyFile) -> Iterator[str]:
    validator = jsonschema.Draft202012Validator(schema())
    for error in sorted(validator.iter_errors(config), key=lambda error: [str(key) for key in error.absolute_path]):
        field, found, wanted = field_name(error.absolute_path), error.instance, error.validator_value
        if error.validator == "additionalProperties":
            known = list(error.schema["properties"])
            for key in [key for key in found if key not in known]:
                hint = nearest(key, known) or f"; known keys: {', '.join(known)}"
                yield f"{field_name([*error.absolute_path, key])}: unknown key{hint}"
        elif error.validator == "required":
            for key in [key for key in wanted if key not in found]:
                yield f"{field_name([*error.absolute_path, key])}: missing"
        elif error.validator == "enum":
            listed = ", ".join(map(str, wanted))
            yield f"{field}: found {as_yaml(found)}, wanted one of {listed}{nearest(found, wanted)}"
        elif error.validator == "uniqueItems":
            twice = next(value for position, value in enumerate(found) if value in found[:position])
            yield f"{field}: found {as_yaml(twice)} twice, wanted distinct values"
        elif error.validator in ("minItems", "minProperties", "minLength"):
            yield f"{field}: found nothing, wanted at least one value"
        else:
            limit = requirement(error.validator, wanted)
            yield f"{field}: found {as_yaml(found)}, wanted {limit}{spelling_hint(found, wanted)}"


def requirement(keyword: str, value: Any) -> str:
    """What a schema keyword requires, in words."""
    relation = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    if keyword in relation:
        return f"a value {relation[keyword]} {value}"
    if keyword == "type":
        kinds = [value] if isinstance(value, str) else value
        return " or ".join(YAML_TYPES.get(kind) or f"{'an' if kind[0] in 'aio' else 'a'} {kind}" for kind in kinds)
    return f"text of the form {value}" if keyword == "pattern" else f"{keyword} {value}"


def spelling_hint(found: Any, wanted: Any) -> str:
    """A hint for numbers and lists that were read as text: 1e-3 has no dot, and Snakemake's --config turns most values
    into text."""
    if not isinstance(found, str):
        return ""
    if wanted == "array":
        return " (in --config, put brackets and quotes around a list; better write it in a study file)"
    try:
        float(found if wanted in ("number", "integer") else "text")
    except ValueError:
        return ""
    if isinstance(yaml.safe_load(found), str):
        return f" (YAML reads {found} as text: write it with a dot, or without quotes)"
    in_config = (
        "--config turns numbers in brackets into text: write them in a study file, such as a second --configfile"
    )
    return f" ({found} is text: write it without quotes; {in_config})"
