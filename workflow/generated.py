"""Writes what follows from training/facts.py and training/settings.py: the names and rules of settings in
config/schema.yaml, and tables of the README. Imports no torch.

python -m robustgap.workflow.generated      rewrites both files of a checkout
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from robustgap.training.facts import ATTACK_FACTS, DATA_SET_FACTS, DEFENSE_FACTS, EXTRA_SET_FACTS, NETWORK_FACTS
from robustgap.training.settings import CHECKPOINTS, SETTINGS, Setting

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "workflow" / "config" / "schema.yaml"
README = ROOT / "README.md"
SCHEMA_PART = re.compile(r"(?<=whatever stands here: until the end of \$defs\.\n)(?:  .*\n)*")
THREAT_MODEL = ("data", "norm", "eps", "seed")  # stand in the schema outside of `settings`


def schema_text(text: str) -> str:
    """The text of schema.yaml with the definitions that follow from facts and settings."""
    written, count = SCHEMA_PART.subn("".join(f"  {line}\n" for line in schema_lines()), text)
    if count != 1:
        raise ValueError(f"{SCHEMA}: found {count} places for generated definitions, wanted 1")
    return written


def schema_lines() -> Iterator[str]:
    """Definitions, each with an anchor of its name; `settings` and `axes` are the properties of these two keys."""
    attack_norms = list(dict.fromkeys(norm for facts in ATTACK_FACTS.values() for norm in facts.norms))
    names = {"checkpoint": list(CHECKPOINTS), "attack": list(ATTACK_FACTS), "attack_norm": attack_norms}
    definitions = {key: with_description(SETTINGS[key]) for key in THREAT_MODEL} | {
        k: {"enum": v} for k, v in names.items()
    }
    yield from (f"{key}: &{key} {flow(rule)}" for key, rule in definitions.items())
    yield "checksums: &checksums"
    yield from (f"  {name}: *sha256" for name in EXTRA_SET_FACTS)
    settings = {key: with_description(setting) for key, setting in SETTINGS.items() if key not in THREAT_MODEL}
    yield "settings: &settings"
    yield from (f"  {key}: &{key} {flow(rule)}" for key, rule in settings.items())
    yield "axes: &axes"
    yield from (f"  {key}: {{<<: *values, items: *{key}}}" for key in settings)


def with_description(setting: Setting) -> dict[str, Any]:
    return setting.rule | ({"description": setting.meaning} if setting.meaning else {})


def flow(content: Any) -> str:
    """A value as YAML on one line."""
    return str(yaml.safe_dump(content, default_flow_style=True, sort_keys=False, width=1e9)).strip()


def readme_text(text: str) -> str:
    """The text of the README with its generated tables, each between two comments."""
    for name, table in tables().items():
        start, end = f"<!-- {name}, from training/facts.py -->\n", "<!-- end -->"
        text, count = re.subn(f"{re.escape(start)}.*?{end}", f"{start}\n{table}\n{end}", text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{README}: found {count} places for the table of {name}, wanted 1")
    return text


def tables() -> dict[str, str]:
    """The README's tables by name, as Markdown."""
    return {
        "data sets": markdown(
            ["`data:`", "images", "size", "classes", "training, validation, test"],
            (
                [
                    f"`{name}`",
                    d.about,
                    f"{d.channels} × {d.side} × {d.side}",
                    d.classes,
                    thousands(d.train, d.val, d.test),
                ]
                for name, d in DATA_SET_FACTS.items()
            ),
        ),
        "extra images": markdown(
            ["`extra_data:`", "images", "files, by data set"],
            (
                [f"`{name}`", e.about, ", ".join(f"`{data}`: `{file.path}`" for data, file in e.files.items())]
                for name, e in EXTRA_SET_FACTS.items()
            ),
        ),
        "networks": markdown(
            ["`architecture:`", "network", "`width: 0` is", "parameters (CIFAR-10)"],
            (
                [f"`{name}`", n.about, n.width, thousands(int(n.parameters(n.width, DATA_SET_FACTS["cifar10"])))]
                for name, n in NETWORK_FACTS.items()
            ),
        ),
        "attacks": markdown(
            ["in `outcomes.attacks:`", "what it is"], ([f"`{name}`", a.about] for name, a in ATTACK_FACTS.items())
        ),
        "defenses": markdown(
            ["`defense:`", "trained on", "settings that apply to it"],
            ([f"`{name}`", d.about, ", ".join(f"`{key}`" for key in d.settings)] for name, d in DEFENSE_FACTS.items()),
        ),
    }


def thousands(*numbers: int) -> str:
    return ", ".join(f"{number:,}" for number in numbers)


def markdown(head: list[str], rows: Iterable[list[Any]]) -> str:
    first, *others = (f"| {' | '.join(str(cell) for cell in line)} |\n" for line in [head, *rows])
    return "".join([first, f"|{'---|' * len(head)}\n", *others])


def main() -> int:
    try:
        texts = {path: make(path.read_text(encoding="utf-8")) for path, make in WRITTEN.items()}
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


WRITTEN = {SCHEMA: schema_text, README: readme_text}

if __name__ == "__main__":
    sys.exit(main())
