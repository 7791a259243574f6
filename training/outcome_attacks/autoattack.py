"""AutoAttack and its four components, by the installed library (pyautoattack), with its standard parameters."""

import json
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from robustgap.training import attacks
from robustgap.training.checkpoint import FileFault, content_digest, load_tensors, save_tensors
from robustgap.training.facts import ATTACK_FACTS
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS, SEED, Part
from robustgap.training.outcome_attacks.gradient import standing
from robustgap.training.robustbench._compat import InFloat32, autoattack_components, autoattack_warnings

STANDARD = {"apgd_ce": "apgd-ce", "apgd_t": "apgd-t", "fab_t": "fab-t", "square": "square"}
BATCH = ATTACK_FACTS["autoattack"].options["batch"][0]  # images for which the library draws at a time


ALONE = {
    "apgd_ce": "APGD on the cross-entropy, 100 steps (Croce and Hein, ICML 2020).",
    "apgd_t": """APGD on the targeted difference of logits ratio, 100 steps to each of the 9 other classes of largest
    logit (all others, of fewer classes) (Croce and Hein, ICML 2020). The ratio needs 4 classes.""",
    "fab_t": "Targeted FAB, 100 steps to each of these classes (Croce and Hein, ICML 2020).",
    "square": "Square, 5,000 queries without gradients (Andriushchenko et al., ECCV 2020).",
}


def register_alone(name: str, about: str) -> None:
    """Register one component as an attack of its own."""

    def alone(
        model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str, batch: str = BATCH,
        state: Path | None = None,
    ) -> Tensor:  # fmt: skip
        (part,) = components(model, x, y, eps, norm, (name,), int(batch), state)
        return part.x_adv

    alone.__doc__ = about
    OUTCOME_ATTACKS.register(name)(alone)


for component, about in ALONE.items():
    register_alone(component, about)


@OUTCOME_ATTACKS.register("autoattack")
def autoattack(
    model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str, batch: str = BATCH,
    state: Path | None = None,
) -> Iterator[Part]:  # fmt: skip
    """The standard AutoAttack: these four in turn, each on the images that are left (Croce and Hein, ICML 2020). A part
    is what has been found up to and with a component; the last is that with Square."""
    for part in components(model, x, y, eps, norm, tuple(STANDARD), int(batch), state):
        yield part._replace(value="" if part.value == "square" else part.value)


def signs(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> str:
    """What the library's checks warn of; '' for nothing."""
    return "; ".join(autoattack_warnings(model, x, y))


def components(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: str, names: tuple[str, ...], batch: int,
    state: Path | None,
) -> Iterator[Part]:  # fmt: skip
    """Attacked images after each of some components, which attack what is left in batches of `batch`, in float32, as
    the library's own run_standard_evaluation does; x itself where none has succeeded.

    state: folder of one file per component and batch, from which an evaluation that was cut short goes on, with the
    same result; files of other weights, images or parameters are not used. torch's random state is left as it was.
    Raises ValueError for images outside [0, 1], and where apgd_t meets fewer than 4 classes.
    """
    attacks.check_range(x)
    found, images, network = x.clone(), x.float(), InFloat32(model).eval()
    if not eps:
        yield from (Part(name, x.clone(), 0.0) for name in names)
        return
    with torch.no_grad():
        classes = network(images[:1]).shape[1]
    if classes < 4 and "apgd_t" in names:
        raise ValueError(
            f"AutoAttack: found {classes} classes, wanted at least 4: the loss of targeted APGD takes the fourth"
            " largest logit; apgd_ce, fab_t and square need no more than 2"
        )
    given = zip(torch.split(images, batch), torch.split(y, batch), strict=True)
    left = torch.cat([standing(network, *images_and_labels) for images_and_labels in given])
    library = autoattack_components(model, eps=eps, norm=norm, classes=classes, seed=SEED, device=x.device)
    identity = made_for(model, x, y, eps, norm, names, batch) if state else ""
    for name in names:
        seconds = 0.0
        for number, rows in enumerate(torch.split(left.nonzero()[:, 0], batch)):
            if not len(rows):
                break
            attacked = library[STANDARD[name]]
            file = state / f"{name}-{number}.safetensors" if state else None
            wrong, ends, spent = finished(file, identity) or attack(network, attacked, images[rows], y[rows])
            if file:
                save(file, wrong, ends, spent, identity)
            hit = rows[wrong.to(rows.device)]
            found[hit], left[hit] = ends.to(found), False
            seconds += spent
        yield Part(name, found.clone(), seconds)


def attack(
    network: nn.Module, attacked: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, float]:
    """Which images (n, c, h, w) an attack has changed to another class, (n,) bool, these as changed, and seconds."""
    began = time.perf_counter()
    x_adv = attacked(x, y)
    wrong = ~standing(network, x_adv, y)
    return wrong, x_adv[wrong], time.perf_counter() - began


def made_for(model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: str, names: tuple[str, ...], batch: int) -> str:
    """A digest of all that a result depends on."""
    weights = {f"model.{name}": v for name, v in model.state_dict().items() if isinstance(v, Tensor)}
    tensors = {name: value.detach().cpu() for name, value in {**weights, "x": x, "y": y}.items()}
    about = {"eps": repr(eps), "norm": norm, "names": json.dumps(names), "batch": str(batch), "seed": str(SEED)}
    return content_digest(tensors, about | {"pyautoattack": version("pyautoattack")})


def finished(file: Path | None, identity: str) -> tuple[Tensor, Tensor, float] | None:
    """What `attack` gave earlier, from its file; None without one that is whole and made for the same."""
    try:
        tensors, about = load_tensors(file) if file else ({}, {})
    except FileFault:
        return None
    if not file or about.get("made_for") != identity:
        return None
    return tensors["wrong"], tensors["ends"], float(about["seconds"])


def save(file: Path, wrong: Tensor, ends: Tensor, seconds: float, identity: str) -> None:
    save_tensors(file, {"wrong": wrong, "ends": ends}, seconds=repr(seconds), made_for=identity)
