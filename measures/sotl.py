from torch import nn

from robustgap.measures.core import Missing, measure


@measure(
    family="training",
    needs=("weights", "log"),
    expects={"none": None},
    paper="Ru et al., NeurIPS 2021",
    formula="sum_t L_t,  L_t the mean training loss of epoch t",
    invariances=("layer rescaling", "logit scale", "BatchNorm folding"),
)
def sotl(model: nn.Module, log: list[dict[str, float]]) -> float:
    """Sum over training losses: the area under the training curve, in epochs.

        SOTL = sum_{t=1}^T L_t,  L_t = mean loss of the steps of epoch t;  in nats times epochs

    L_t is the loss that the run itself minimised, as logged: in train mode, on augmented images, under the inner
    attack, and for TRADES and MART with their second term; so values compare runs of one defense, less well runs of
    different ones. For the best checkpoint the log ends at its epoch, and the sum has fewer terms. Only the log enters,
    nothing else about the model. Missing for an empty log.
    Paper: Ru et al., Speedy Performance Estimation for Neural Architecture Search, NeurIPS 2021, and Lyle et al., A
    Bayesian Perspective on Training Speed and Model Selection, NeurIPS 2020: lower goes with better test accuracy. The
    variant over the last epochs, SOTL-E, is not this one. Claim about the gap: none.
    """
    if not log:
        raise Missing("the training log has no epochs")
    return sum(line["train_loss"] for line in log)
