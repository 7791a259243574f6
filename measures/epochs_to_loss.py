from torch import nn

from robustgap.measures.core import Missing, measure

LEVEL = 0.5  # nats


@measure(
    family="training",
    needs=("weights", "log"),
    expects={"none": None},
    paper="Jiang et al., ICLR 2020",
    formula="min {t : L_t < 0.5},  L_t the mean training loss of epoch t",
    invariances=("layer rescaling", "logit scale", "BatchNorm folding"),
)
def epochs_to_loss(model: nn.Module, log: list[dict[str, float]]) -> float:
    """Training speed: the first epoch whose mean training loss is below 0.5.

        min {t : L_t < 0.5},  L_t = mean loss of the steps of epoch t, in nats;  in epochs, 1, 2, ...

    In epochs, not in gradient steps as in the paper, because the log has a line per epoch: runs of different batch
    sizes take different numbers of steps in one. L_t is the loss that the run itself minimised (see sotl), so values
    compare runs of one defense. Only the log enters, nothing else about the model. Missing, with the lowest loss, where
    no epoch is below the level; for the best checkpoint the log ends at its epoch.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020 (steps to a cross-entropy of 0.1), which studies
    the sign rather than claims one. Its level is for clean training; TRADES and MART stay above it. Claim about the
    gap: none.
    """
    if not log:
        raise Missing("the training log has no epochs")
    for line in log:
        if line["train_loss"] < LEVEL:
            return line["epoch"]
    lowest = min(line["train_loss"] for line in log)
    raise Missing(f"no epoch has a training loss below {LEVEL}: the lowest is {lowest:.3g}")
