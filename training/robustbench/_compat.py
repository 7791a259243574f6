"""What the installed robustbench needs before it can be imported. Each repair is made only where something is missing.

torchvision   The registry's wheel is built for CUDA; beside a CPU-only torch its C++ library does not load, and
              `import torchvision` fails because two operator schemas are missing. They are declared; a matching
              torchvision is left alone. Its own operators (nms, JPEG decoding) stay unavailable; datasets, transforms
              and models work.
pkg_resources Removed from setuptools 82; robustbench asks it for one function.
autoattack    On the registry this module is called pyautoattack and its interface changed. Its components are available
              as `autoattack_components`, its checks as `autoattack_warnings`, and FAB for measures as `fab`.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_KEPT: list[torch.library.Library] = []  # a schema lives as long as its Library object


def import_torchvision() -> ModuleType:
    """torchvision, importable beside any torch."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the failed import left behind
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _KEPT.append(library)
    return importlib.import_module("torchvision")


def _missing(module: str) -> bool:
    return module not in sys.modules and importlib.util.find_spec(module) is None


def _resource_filename(package: str, name: str) -> str:
    """Path of a file that lies beside a module or inside a package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {package!r}")
    return str(Path(spec.origin).parent / name)


class AutoAttack:
    """The published interface of AutoAttack (Croce and Hein, ICML 2020), which robustbench calls, on pyautoattack's.

    Raises ValueError for log_path: pyautoattack logs to logging.getLogger("auto-attack") instead.
    """

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 0.3,
        seed: int | None = None,
        verbose: bool = True,
        attacks_to_run: list[str] | None = None,
        version: str = "standard",
        device: torch.device | str = "cpu",
        log_path: Path | None = None,
    ):
        if log_path is not None:
            raise ValueError("log_path: wanted None; this AutoAttack logs to logging.getLogger('auto-attack')")
        module = importlib.import_module("pyautoattack")
        self.inner = module.AutoAttack(
            model, attacks=attacks_to_run or None, device=device, eps=eps, norm=norm, seed=seed, version=version
        )
        self.inner.verbose = verbose

    def run_standard_evaluation(
        self, x: Tensor, y: Tensor, bs: int = 250, return_labels: bool = False, state_path: Path | None = None
    ) -> Any:
        """Adversarial images (n, c, h, w), with return_labels also the labels the model gives them, (n,)."""
        x_adv, y_adv = self.inner.run_standard_evaluation(x, y, batch_size=bs, state_path=state_path)
        return (x_adv, y_adv) if return_labels else x_adv


class InFloat32(nn.Module):
    """A model whose logits are float32, as the library computes."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images).float()
        return logits


def autoattack_components(
    model: nn.Module, *, eps: float, norm: str, classes: int, seed: int, device: torch.device
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """The components of the standard AutoAttack (Croce and Hein, ICML 2020), with its parameters, in its order: from
    images (n, c, h, w) in float32 and labels (n,) to attacked images, the images themselves where it does not succeed.

    Targets are the 9 other classes of largest logit, or all of fewer. Each call sets torch's random state to `seed`,
    so that its result is a function of the images and their order; it is left as it was. apgd-t needs 4 classes.
    """
    library = AutoAttack(InFloat32(model).eval(), norm=norm, eps=eps, seed=seed, verbose=False, device=device).inner
    library.apgd_targeted.n_target_classes = library.fab.n_target_classes = min(9, classes - 1)
    library.apgd.loss, library.fab.targeted = "ce", True

    def seeded(attack: Any) -> Callable[[Tensor, Tensor], Tensor]:
        def attacked(x: Tensor, y: Tensor) -> Tensor:
            with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.no_grad():
                x_adv: Tensor = attack.perturb(x, y)
            return x_adv

        return attacked

    parts = {"apgd-ce": library.apgd, "apgd-t": library.apgd_targeted, "fab-t": library.fab, "square": library.square}
    return {name: seeded(parts[name]) for name in library.attacks_to_run}


class _Warnings(list[str]):
    """Stands for the library's logger: keeps what it warns of, without the reference to its documentation."""

    def warning(self, message: str) -> None:
        self.append(message.partition(" See ")[0])


def autoattack_warnings(model: nn.Module, x: Tensor, y: Tensor) -> list[str]:
    """What AutoAttack's checks say of a model, from images (n, c, h, w) and labels (n,): outputs that change from call
    to call, probabilities for logits, gradients taken inside the forward pass, gradients by the image that are 0."""
    checks = importlib.import_module("pyautoattack.checks")
    network, images, found = InFloat32(model).eval(), x.detach().float().clone(), _Warnings()
    tracing = sys.gettrace()
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # else a model answers for those before it
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        try:
            checks.check_randomized(network, images, y, bs=len(x), logger=found)
            classes = checks.check_range_output(network, images, logger=found)
            checks.check_dynamic(network, images, logger=found)
        finally:
            sys.settrace(tracing)
        apgd = AutoAttack(network, eps=1.0, verbose=False, device=x.device).inner.apgd
        with torch.enable_grad():
            images.requires_grad_(True)
            logits = network(images)
            loss = apgd.dlr_loss(logits, y) if classes > 2 else nn.functional.cross_entropy(logits, y, reduction="none")
        gradient = torch.zeros_like(images)
        if loss.requires_grad:  # else the input is detached on the way
            gradient = torch.autograd.grad(loss.sum(), images, allow_unused=True, materialize_grads=True)[0]
        checks.check_zero_gradients(gradient, logger=found)
    return found


def fab(
    model: Callable[[Tensor], Tensor],
    differences: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    steps: int,
) -> Tensor:
    """The closest images of another class that FAB finds (Croce and Hein, ICML 2020): (n, ...) in [0, 1], float32.

    model        images float32 -> logits (n, k)
    differences  (images, y) -> f_k - f_y of some classes k != y, (n, r), and their gradients (n, r, ...), float32. The
                 library's own would take the gradient of every class
    norm, steps  Linf or L2; number of steps. Each ends at a class other than y, or the image comes back as it was, as
                 does one of another class from the start.

    It starts at x, without noise: the result is a function of the image alone, and no random number is drawn.
    """
    base = importlib.import_module("pyautoattack.fab_base").FABAttack

    class Attack(base):  # type: ignore[valid-type, misc]
        def _get_predicted_label(self, images: Tensor) -> Tensor:
            return model(images).argmax(dim=1)

        def get_diff_logits_grads_batch(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            return differences(images, labels)

    return Attack(norm=norm, n_iter=steps, device=x.device).attack_single_run(x, y)  # type: ignore[no-any-return]


def import_robustbench() -> ModuleType:
    """robustbench, importable whatever torchvision, setuptools and AutoAttack are installed beside it."""
    import_torchvision()
    if _missing("pkg_resources"):
        resources = ModuleType("pkg_resources")
        resources.resource_filename = _resource_filename  # type: ignore[attr-defined]
        sys.modules["pkg_resources"] = resources
    if _missing("autoattack"):
        attack = ModuleType("autoattack")
        attack.AutoAttack = AutoAttack  # type: ignore[attr-defined]
        attack.state = importlib.import_module("pyautoattack.state")  # type: ignore[attr-defined]
        sys.modules |= {"autoattack": attack, "autoattack.state": attack.state}
    return importlib.import_module("robustbench")
