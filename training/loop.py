"""The training loop: one run, from its settings to `last` and `best` weights, a log and a record.

An epoch: batches of a keyed permutation, augmented; a step on each (the defense's adversary in eval mode, the loss in
train mode, SGD); then clean and PGD-10 accuracy in eval mode, a log line and the sidecar.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustgap.training.carried_state import Carried, begin
from robustgap.training.data.batches import batches, steps_per_epoch
from robustgap.training.data.splits import Split, Splits
from robustgap.training.ema import holding
from robustgap.training.epoch_scores import epoch_scores
from robustgap.training.overfitting import catastrophic
from robustgap.training.schedules import first_drop, learning_rate
from robustgap.training.settings import Record, Settings, TableRow
from robustgap.training.step import train_step


class Collapse(Exception):
    """The loss is not finite; the message says where."""


@dataclass
class Progress:
    """Progress of a run; the sidecar stores all of it."""

    epoch: int = 0
    best_epoch: int = -1
    best_score: float = -1.0
    seconds: float = 0.0
    log: list[TableRow] = field(default_factory=list)
    made_by: list[Record] = field(
        default_factory=list
    )  # distinct `provenance.made_by` of the processes that trained it


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    splits: Splits,
    extra: Split | None,
    settings: Settings,
    progress: Progress,
    best: dict[str, Tensor] | None,
    after_epoch: Callable[[dict[str, Tensor] | None], None],
    carried: Carried | None = None,
) -> dict[str, Tensor] | None:
    """Train from `progress.epoch` to the end; returns the best weights. `after_epoch(best)` saves the state, of which
    `carried` is part (default: that of a new run).

    best: highest PGD-10 (Standard: clean) validation accuracy among the epochs after the first learning-rate drop,
    ties to the later epoch. With an average of the weights, accuracies and best weights are those of the average; the
    attacks of training, the loss and the steps are those of the weights. Raises Collapse after an epoch whose mean loss
    is not finite.
    """
    device = next(model.parameters()).device
    carried = carried or begin(settings, model, splits)
    score_name = "val_clean" if settings["defense"] == "Standard" else "val_robust"
    steps = steps_per_epoch(settings, splits, extra)
    for epoch in range(progress.epoch, int(settings["epochs"])):
        began = time.perf_counter()
        model.train()
        total, count = torch.zeros((), dtype=torch.float64, device=device), 0
        for number, batch in enumerate(batches(settings, splits, extra, epoch, device)):
            for group in optimizer.param_groups:  # the rate at the middle of the step, so that no step has rate 0
                group["lr"] = learning_rate(settings, epoch, (number + 0.5) / steps)
            loss = train_step(model, optimizer, batch, settings, epoch, carried.perturbation)
            total += loss.double() * len(batch.y)
            count += len(batch.y)
            carried.after_step(model, settings, epoch * steps + number)
        mean_loss = float(total) / count
        if not math.isfinite(mean_loss):
            raise Collapse(f"training loss {mean_loss} in epoch {epoch + 1}")
        with holding(model, carried.average):
            scores = epoch_scores(model, splits, settings)
            if epoch >= first_drop(settings) and scores[score_name] >= progress.best_score:
                progress.best_epoch, progress.best_score = epoch + 1, scores[score_name]
                best = {k: v.detach().clone() for k, v in model.state_dict().items()}
        seconds = time.perf_counter() - began
        progress.epoch, progress.seconds = epoch + 1, progress.seconds + seconds
        progress.log.append(
            {
                "epoch": epoch + 1,
                "lr": optimizer.param_groups[0]["lr"],  # of the last step
                "train_loss": mean_loss,
                **scores,
                "catastrophic": 0,
                "seconds": round(seconds, 4),
            }
        )
        if settings["defense"] != "Standard":
            progress.log[-1]["catastrophic"] = int(catastrophic(progress.log, len(splits.val), splits.num_classes))
        after_epoch(best)
    return best
