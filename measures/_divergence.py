"""Divergence of two predictions."""

from torch import Tensor


def kl(logits: Tensor, other: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(other)) of each example, in nats: (n, k), (n, k) -> (n,).

    In float64, for the reason that the cross-entropy is (training/attacks.py).
    """
    log_p, log_q = logits.double().log_softmax(dim=1), other.double().log_softmax(dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).to(logits)
