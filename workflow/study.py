"""Reads study files, checks them against config/schema.yaml, and fills in defaults. Imports no torch.

Every fault is one line `FILE: KEY: what was found, what is wanted`, with the nearest known name if there is one.
"""

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from robustgap.measures._code import names as python_measures
from robustgap.training.facts import DATA_SET_FACTS, EXTRA_SET_FACTS, DataSetFacts
from robustgap.training.jobs.outcome_id import BASE
from robustgap.training.paths import expanded, expanded_address, given_path
from robustgap.training.settings import DEFAULTS, StudyFile, exact, number
from robustgap.workflow.generated import SCHEMA
from robustgap.workflow.names import nearest
from robustgap.workflow.outcomes import LOGGED, OutcomeError, outcome_columns, study_outcomes
from robustgap.workflow.study_faults import StudyError, schema, schema_faults

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = SCHEMA.with_name("digits.yaml")
EXTRA_RULE = re.compile(r"^rule +compute_(\w+) *:", re.MULTILINE)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML loader for which a duplicate key is an error instead of overriding the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise StudyError(f"line {line}: found key {key.value!r} twice (first in line {lines[key.value]})")
                lines[key.value] = line
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def study_names() -> list[str]:
    """Names of the shipped studies."""
    return sorted(file.stem for file in SCHEMA.parent.glob("*.yaml") if file != SCHEMA)


def study_file(name: str) -> Path:
    """A study file, by its path or by the name of a shipped study. Raises StudyError if there is none."""
    path, known = given_path(name), study_names()
    if name in known and not path.is_file():
        return SCHEMA.with_name(f"{name}.yaml")
    if not path.exists():
        wanted = f"wanted a file or one of {', '.join(known)}{nearest(path.stem, known)}"
        raise StudyError(f"{name}: found no study of that name or path, {wanted}")
    return path


def read_study(path: str | Path) -> StudyFile:
    """Content of a study file. Raises StudyError if it is missing, not YAML, not a mapping, or has a duplicate key."""
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror or error}") from error
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        kind = {"NoneType": "nothing", "list": "list", "str": "text"}.get(type(content).__name__, "a number")
        raise StudyError(f"{path}: found {kind}, wanted keys and values")
    return content


def with_defaults(config: StudyFile) -> StudyFile:
    """A copy with the schema's defaults filled in, and eps and the settings in canonical spelling."""
    study = copy.deepcopy(dict(config))
    for key, rule in schema()["properties"].items():
        if "default" in rule:
            study.setdefault(key, copy.deepcopy(rule["default"]))
        for inner, inner_rule in rule.get("properties", {}).items():
            if "default" in inner_rule:
                study[key].setdefault(inner, inner_rule["default"])
    study["eps"] = exact(study["eps"])
    # 1 and 1.0 are the same learning rate and must give the same run id
    study["settings"] = {key: typed_value(key, value) for key, value in study["settings"].items()}
    study["axes"] = {key: [typed_value(key, value) for value in values] for key, values in study["axes"].items()}
    study["seeds"] = [int(seed) for seed in study["seeds"]]
    for entry in study["models"]:
        entry |= {"width": int(entry["width"])} if "width" in entry else {}
    return with_integers(study, schema())


def with_integers(content: StudyFile, rule: dict[str, Any]) -> StudyFile:
    """The content with integers where the schema requires them: JSON Schema and YAML also accept 3.0."""
    converted = dict(content)
    for key, inner in rule["properties"].items():
        if inner.get("type") == "integer" and key in content:
            converted[key] = int(content[key])
        elif "properties" in inner and key in content:
            converted[key] = with_integers(content[key], inner)
    return converted


def typed_value(key: str, value: object) -> object:
    """A setting's value converted to the type of its default."""
    if isinstance(DEFAULTS[key], float) and isinstance(value, int):
        return float(value)
    return int(value) if isinstance(value, float) and isinstance(DEFAULTS[key], int) else value


def rule_file(path: str) -> Path:
    """Path of a user's rule file: in the working directory, else beside the Snakefile."""
    local = Path(path).absolute()
    return local if local.is_file() else ROOT / path


def extra_measures(study: StudyFile) -> dict[str, str]:
    """Measures computed by users' rule files, from the names of their rules `compute_NAME`: {NAME: file}."""
    return {
        name: path
        for path in study["extra_rules"]
        if rule_file(path).is_file()
        for name in EXTRA_RULE.findall(rule_file(path).read_text(encoding="utf-8"))
    }


def budget_fault(config: StudyFile) -> str | None:
    """What is wrong with eps, if anything: not a number, negative, or (Linf) wider than the images' range."""
    try:
        eps = number(exact(config["eps"]))
    except ValueError as error:
        return str(error)
    too_wide = config.get("norm", "Linf") == "Linf" and eps > 1
    return f"eps: found {config['eps']!r}, wanted at most 1, the range of an image" if too_wide else None


def path_faults(study: StudyFile) -> list[str]:
    """Expand every path of a study in place; one 'KEY: fault' for each that cannot be expanded."""
    fields: list[tuple[str, Any, str | int, Callable[[str], str]]] = [
        *((key, study, key, expanded) for key in ("data_dir", "model_dir")),
        *((f"models[{i}].file", entry, "file", expanded) for i, entry in enumerate(study["models"]) if "file" in entry),
        *((f"extra_rules[{i}]", study["extra_rules"], i, expanded) for i in range(len(study["extra_rules"]))),
        *((f"mirrors[{i}]", study["mirrors"], i, expanded_address) for i in range(len(study["mirrors"]))),
    ]
    faults = []
    for field, container, key, expand in fields:
        try:
            container[key] = expand(container[key])
        except ValueError as error:
            faults.append(f"{field}: {error}")
    return faults


def meaning_faults(study: StudyFile) -> Iterator[str]:
    """One 'KEY: fault' for everything that the schema cannot check."""
    for key in study["settings"]:
        if key in study["axes"]:
            yield f"axes.{key}: also a fixed setting, wanted only one of the two"
    if study["checkpoints"] != ["last"]:
        for field, epochs in setting_values(study, "epochs"):
            if epochs < 2:
                yield f"{field}: found {epochs}, wanted at least 2: `best` is selected after the first drop of lr"
    images = DATA_SET_FACTS[study["data"]]
    for field, value in setting_values(study, "extra_data"):
        if value == "pool" and not images.extra:
            yield f"{field}: found 'pool', but {study['data']} has no extra images"
        if value in EXTRA_SET_FACTS and study["data"] not in EXTRA_SET_FACTS[value].files:
            yield f"{field}: found {value!r}, which has images for {', '.join(EXTRA_SET_FACTS[value].files)} only"
    yield from outcome_faults(study["outcomes"], study, images)
    if study["train_jobs"] == "run" and study["train_processes"] > 1:
        yield f"train_processes: found {study['train_processes']}, wanted 1 with train_jobs: run, one run per job"
    if study.get("extends") == study["study"]:
        yield f"extends: found the study's own name, {study['study']}, wanted another, or the folder of a ledger"
    for field, value in setting_values(study, "precision"):
        if study["reproducible"] and value == "bfloat16":
            slow = "AVX2 instructions make it many times slower"
            yield f"{field}: found 'bfloat16' with reproducible: true, wanted float32: {slow}"
    yield from measure_faults(study)


def outcome_faults(outcomes: dict[str, Any], study: StudyFile, images: DataSetFacts) -> Iterator[str]:
    """Faults of `outcomes` and `measure_images`: more images than the data set has, missing attacks that are needed."""
    train, all_images = outcomes.get("train_images", images.train), f"the number of images in {study['data']}"
    for field, found, maximum, limit in (
        ("outcomes.train_images", train, images.train, all_images),
        ("outcomes.test_images", outcomes.get("test_images", 0), images.test, all_images),
        (
            "measure_images",
            study["measure_images"],
            train,
            "outcomes.train_images" if train < images.train else all_images,
        ),
    ):
        if found > maximum:
            yield f"{field}: found {found}, wanted at most {maximum}, {limit}"
    try:
        ids = [outcome.id for outcome in study_outcomes(study)]
    except OutcomeError as error:
        yield str(error)
        return
    for attack in BASE:
        if attack not in ids:
            yield f"outcomes.attacks: {attack!r} is missing; the gap and the measures need it"
    asked = study["analysis"]["outcome"]
    names = [*python_measures(), *extra_measures(study)] if study["measures"] == "all" else study["measures"]
    columns = outcome_columns(ids)
    others = [*(f"{name}{variant}" for name in names for variant in ("", ".adv")), *LOGGED]
    if asked not in [*columns, *others]:
        hint = nearest(asked, [*columns, *others]) or f"; known: {', '.join(columns)}"
        wanted = "wanted a gap, an accuracy or a loss of outcomes.attacks, or a measure"
        yield f"analysis.outcome: found {asked!r}, {wanted}{hint}"


def setting_values(study: StudyFile, key: str) -> list[tuple[str, Any]]:
    """(field, value) of a setting: the values of its axis, else the fixed value, else its default."""
    if key in study["axes"]:
        return [(f"axes.{key}[{position}]", value) for position, value in enumerate(study["axes"][key])]
    return [(f"settings.{key}", study["settings"].get(key, DEFAULTS[key]))]


def measure_faults(study: StudyFile) -> Iterator[str]:
    """Missing extra rule files, and measures that nothing computes."""
    for position, path in enumerate(study["extra_rules"]):
        if not rule_file(path).is_file():
            yield f"extra_rules[{position}]: no file {path} (in the working directory, or the folder of the Snakefile)"
    in_python, in_rules = list(python_measures()), extra_measures(study)
    for name in set(in_python) & set(in_rules):
        yield f"extra_rules: {in_rules[name]} makes {name!r}, which measures/{name}.py makes already"
    if isinstance(study["measures"], str):
        if study["measures"] != "all":
            yield f"measures: found {study['measures']!r}, wanted a list of names or all"
        return
    for position, name in enumerate(study["measures"]):
        if name not in in_python and name not in in_rules:
            known = [*in_python, *in_rules]
            hint = nearest(name, known) or f"; known measures: {', '.join(known)}"
            yield f"measures[{position}]: nothing makes {name!r}{hint}"


def measure_rules(study: StudyFile) -> dict[str, list[str]]:
    """{NAME of a rule compute_NAME: the Python measures that its jobs compute}."""
    names = [name for name in python_measures() if name in study["measures"]]
    if study["measure_jobs"] == "chunk":
        return {"measures": names} if names else {}
    return {name: [name] for name in names}


def resolve(config: StudyFile, origin: str | Path) -> StudyFile:
    """The complete study described by `config`: defaults filled in, eps exact, paths resolved, measures by name.

    Raises StudyError with one line for each fault, each starting with `origin`.
    """
    faults = schema_faults(config)
    if not faults and (fault := budget_fault(config)):
        faults = [fault]
    study = with_defaults(config) if not faults else {}
    faults = faults or path_faults(study) or list(meaning_faults(study))
    if faults:
        raise StudyError("\n".join(f"{origin}: {fault}" for fault in faults))
    if study["measures"] == "all":
        study["measures"] = [*python_measures(), *extra_measures(study)]
    return study
