"""k runs of one network trained together in one process: their parameters stacked along a new first axis, each
operation done for all of them at once by torch.func (`vmap` of `functional_call`).

The same work as k runs of `training.step.train_step` with PGD adversarial training in the ball of Linf: starts keyed by
each run's own seed, the cross-entropy of `training.attacks` in float64, an attack in eval mode, BatchNorm statistics
updated for each run, and `training.jobs.run.make_optimizer` on the stacked parameters.
"""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from robustgap.training.attacks import START, ascent_direction, cross_entropy, project
from robustgap.training.data.batches import TrainingBatch
from robustgap.training.jobs.run import make_optimizer
from robustgap.training.settings import number
from robustgap.training.step import inner_attack, train_step

TOLERANCE = 1e-9  # of a run's weights, relative, after CHECKED steps in float64
CHECKED = 3


class Stacked:
    """k runs; `settings` of each, which differ in the seed alone, and `models` as they are before training."""

    def __init__(self, models: list[nn.Module], settings: list[dict]):
        self.settings, self.eps = settings, number(settings[0]["eps"])
        parameters, self.buffers = stack_module_state(models)
        self.parameters = {name: nn.Parameter(value.detach()) for name, value in parameters.items()}
        self.optimizer = make_optimizer(nn.ParameterList(self.parameters.values()), settings[0])
        self.network = copy.deepcopy(models[0]).to("meta")  # its form; the weights are given to each call
        self.input_gradients = vmap(grad(self._attacked, argnums=2))
        self.weight_gradients = vmap(grad(self._trained, has_aux=True))

    def _attacked(self, parameters: dict, buffers: dict, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(self.network, (parameters, buffers), (x,)), y).sum()

    def _trained(self, parameters: dict, buffers: dict, x: Tensor, y: Tensor) -> tuple[Tensor, dict]:
        """The mean loss, and the buffers as BatchNorm leaves them: it writes into those it is given."""
        buffers = {name: value.clone() for name, value in buffers.items()}
        logits = functional_call(self.network, (parameters, buffers), (x,))
        return cross_entropy(logits, y).mean(), buffers

    def step(self, batches: list[TrainingBatch], epoch: int) -> None:
        """One step of every run, on its own batch."""
        x, y = torch.stack([batch.x for batch in batches]), torch.stack([batch.y for batch in batches])
        attacks = [inner_attack(one, batch.index, epoch) for one, batch in zip(self.settings, batches, strict=True)]
        starts = [attack.uniform(batch.x, START) for attack, batch in zip(attacks, batches, strict=True)]
        parameters = {name: value.detach() for name, value in self.parameters.items()}
        self.network.eval()
        x_adv = project(x, x + torch.stack(starts), self.eps, "Linf")
        for _ in range(attacks[0].steps):
            gradient = self.input_gradients(parameters, self.buffers, x_adv, y)
            x_adv = project(x, x_adv + self.eps / 4 * ascent_direction(gradient, "Linf"), self.eps, "Linf")
        self.network.train()
        gradients, self.buffers = self.weight_gradients(parameters, self.buffers, x_adv, y)
        for name, value in self.parameters.items():
            value.grad = gradients[name]
        self.optimizer.step()

    def state(self, run: int) -> dict[str, Tensor]:
        """Parameters and buffers of one run."""
        return {name: value[run].detach() for name, value in {**self.parameters, **self.buffers}.items()}


def compare(runs: list[tuple[dict, nn.Module, TrainingBatch]]) -> float:
    """The largest relative difference of a stacked run from the same run by itself, both trained here on its batch:
    |a - b| / |a| of all parameters, or of all buffers. Raises ArithmeticError where that is above TOLERANCE."""
    together, worst = Stacked([model for _, model, _ in runs], [settings for settings, _, _ in runs]), 0.0
    for step in range(CHECKED):
        together.step([batch for _, _, batch in runs], step)
    for run, (settings, model, batch) in enumerate(runs):
        optimizer = make_optimizer(model, settings)
        for step in range(CHECKED):
            train_step(model, optimizer, batch, settings, step)
        for tensors in (dict(model.named_parameters()), dict(model.named_buffers())):
            if tensors:
                a = torch.cat([value.detach().flatten().double() for value in tensors.values()])
                b = torch.cat([together.state(run)[name].flatten().double() for name in tensors])
                worst = max(worst, float((a - b).norm() / a.norm()))
    if not worst <= TOLERANCE:
        raise ArithmeticError(f"stacked runs differ from separate ones by {worst:.1e}, wanted at most {TOLERANCE:.0e}")
    return worst
