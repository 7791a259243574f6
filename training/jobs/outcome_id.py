"""An outcome and its id. Imports no torch.

    ATTACK[@NORM:EPS][>TARGET][+OPTION=VALUE...]        pgd10, pgd10@Linf:4/255, targeted_pgd>3, pgd10@L2:1/2

A part that equals the study's threat model or an option's default is left out, so that `pgd10` is at the study's eps.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from robustgap.training.settings import StudyFile

BASE = ("clean", "pgd10")  # at the study's threat model: what the gap and the measures need, made by one job
UNSAFE = re.compile(r"[^\w.=-]+", re.ASCII)


@dataclass(frozen=True)
class Outcome:
    """Under what models are judged.

    eps, options                an exact fraction; those not at their default, by name
    train_images, test_images   how many of the frozen images, None: all
    checkpoints                 of which models; none: of all
    """

    attack: str
    norm: str
    eps: str
    target: str = ""
    options: tuple[tuple[str, str], ...] = ()
    threat: tuple[str, str] = ("", "")  # norm and eps of the study
    train_images: int | None = None
    test_images: int | None = None
    checkpoints: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self._text(f"{self.norm}:{self.eps}", (self.norm, self.eps) == self.threat)

    @property
    def group(self) -> str:
        """The id without eps, as the name of a folder: the outcomes of a group are made by one job per chunk."""
        return UNSAFE.sub("-", self._text(self.norm, self.norm == self.threat[0]))

    def _text(self, place: str, omitted: bool) -> str:
        target = f">{self.target}" if self.target else ""
        return f"{self.attack}{'' if omitted else f'@{place}'}{target}{''.join(f'+{k}={v}' for k, v in self.options)}"

    @property
    def sources(self) -> list[str]:
        """Ids of the models whose examples are used; none for attacks on the model that is judged."""
        return [source for name, text in self.options if name == "source" for source in text.split(",")]

    def option_text(self) -> str:
        """The options as a column of the ledger: 'batch=100;kind=blur'."""
        return ";".join(f"{name}={value}" for name, value in self.options)

    def part(self, name: str, value: str) -> "Outcome":
        """The outcome of a part of this one: a target, or an option."""
        if name == "target":
            return replace(self, target=value)
        return replace(self, options=tuple(sorted([*self.options, (name, value)])))

    def as_entry(self) -> dict[str, Any]:
        """This outcome in plan.json."""
        fields = {key: value for key, value in vars(self).items() if key != "threat"}
        return {"id": self.id, **fields, "options": dict(self.options), "checkpoints": list(self.checkpoints)}


def of_entry(entry: Mapping[str, Any], study: StudyFile) -> Outcome:
    """The outcome that `as_entry` wrote into a plan."""
    fields = {key: value for key, value in entry.items() if key != "id"}
    fields |= {"options": tuple(entry["options"].items()), "checkpoints": tuple(entry["checkpoints"])}
    return Outcome(**fields, threat=(study["norm"], study["eps"]))


def base_outcomes(study: StudyFile) -> list[Outcome]:
    """The outcomes BASE of a study."""
    threat = study["norm"], study["eps"]
    return [Outcome(attack, *threat, threat=threat) for attack in BASE]
