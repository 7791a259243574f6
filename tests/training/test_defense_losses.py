"""Each loss against its published formula in NumPy."""

import numpy as np
import pytest
import torch
from linear_attacks import Linear, batch, inner
from torch import nn

from robustgap.training.defenses import DEFENSES, kl_divergence
from robustgap.training.settings import complete

BETA = 6.0


class Logits(nn.Module):
    """'Images' (n, 5) are the logits themselves."""

    def forward(self, x):
        return x


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.fixture
def logits():
    """Clean and adversarial logits (12, 5), labels: some right, some wrong, some confident."""
    generator = torch.Generator().manual_seed(0)
    clean, adversarial = 2 * torch.randn(2, 12, 5, generator=generator, dtype=torch.float64)
    return clean, adversarial, torch.randint(5, (12,), generator=generator)


def loss_of(name, clean, adversarial, y, **settings):
    return DEFENSES[name](complete({"defense": name, **settings})).loss(Logits(), clean, adversarial, y).numpy()


def numpy_parts(logits):
    clean, adversarial, y = (part.numpy() for part in logits)
    return softmax(clean), softmax(adversarial), np.arange(len(y)), y


def kl(p, q):
    return (p * np.log(p / q)).sum(1)


def test_kl_divergence_of_known_distributions():
    p, q = torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[0.25, 0.75]]).double()
    assert float(kl_divergence(p.log(), q.log())) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert float(kl_divergence(q.log(), p.log())) == pytest.approx(0.25 * np.log(0.5) + 0.75 * np.log(1.5))


@pytest.mark.parametrize("name", ["Standard", "AT", "FGSM-RS"])
def test_cross_entropy_of_what_the_adversary_returned(name, logits):
    _, q, rows, y = numpy_parts(logits)
    np.testing.assert_allclose(loss_of(name, *logits), -np.log(q[rows, y]), rtol=1e-12)


@pytest.mark.parametrize("beta", [6.0, 1.5])
def test_trades(beta, logits):
    """CE(f(x), y) + beta KL(f(x) || f(x_adv)): clean first, so the other direction is another number."""
    p, q, rows, y = numpy_parts(logits)
    found = loss_of("TRADES", *logits, trades_beta=beta)
    np.testing.assert_allclose(found, -np.log(p[rows, y]) + beta * kl(p, q), rtol=1e-12)
    assert np.abs(found - (-np.log(p[rows, y]) + beta * kl(q, p))).min() > 1e-3


@pytest.mark.parametrize("beta", [5.0, 2.0])
def test_mart(beta, logits):
    """-log q_y - log(1 - max_{k != y} q_k) + beta KL(p || q) (1 - p_y) with q adversarial and p clean."""
    p, q, rows, y = numpy_parts(logits)
    others = q.copy()
    others[rows, y] = -1
    largest, weighted = others.max(1), beta * kl(p, q) * (1 - p[rows, y])
    found = loss_of("MART", *logits, mart_beta=beta)
    np.testing.assert_allclose(found, -np.log(q[rows, y]) - np.log(1.0001 - largest) + weighted, rtol=1e-12)
    np.testing.assert_allclose(found, -np.log(q[rows, y]) - np.log(1 - largest) + weighted, atol=3e-3)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_alp(weight, logits):
    """Clean and adversarial images count alike; the pairing term is the mean square over classes."""
    p, q, rows, y = numpy_parts(logits)
    clean, adversarial = (part.numpy() for part in logits[:2])
    found = loss_of("ALP", *logits, alp_weight=weight)
    pairing = ((clean - adversarial) ** 2).sum(1) / 5
    np.testing.assert_allclose(found, -np.log(p[rows, y] * q[rows, y]) / 2 + weight * pairing, rtol=1e-12)


def test_without_a_perturbation_alp_is_standard_training(logits):
    clean, _, y = logits
    np.testing.assert_allclose(loss_of("ALP", clean, clean, y), loss_of("Standard", clean, clean, y), rtol=1e-12)
    x, y, index = batch()
    defense = DEFENSES["ALP"](complete({"defense": "ALP"}))
    assert torch.equal(defense.adversary(Linear(), x, y, inner(index, 10, eps=0.0)), x)


def test_the_pairing_term_of_a_linear_model():
    """f(x_adv) - f(x) = W delta, with delta = eps sign(w_other - w_y): the attack is exact there."""
    model, (x, y, index) = Linear(), batch()
    losses = []
    for weight in (0.0, 3.0):
        defense = DEFENSES["ALP"](complete({"defense": "ALP", "alp_weight": weight}))
        losses.append(defense.loss(model, x, defense.adversary(model, x, y, inner(index, 10)), y))
    moved = model.linear.weight.detach() @ (0.1 * model.direction.sign().flatten())
    torch.testing.assert_close(losses[1] - losses[0], (3.0 * moved.square().mean()).expand(400), rtol=1e-9, atol=0)


def test_mart_stays_finite_where_another_class_has_probability_one():
    certain = torch.tensor([[0.0, 60.0, 0.0]], dtype=torch.float64)
    assert np.isfinite(loss_of("MART", certain, certain, torch.tensor([0]))).all()


@pytest.mark.parametrize("name", ["TRADES", "MART", "ALP"])
def test_gradients_flow_through_clean_and_adversarial_images(name, logits):
    clean, adversarial, y = logits
    clean, adversarial = clean.requires_grad_(), adversarial.requires_grad_()
    DEFENSES[name](complete({"defense": name})).loss(Logits(), clean, adversarial, y).sum().backward()
    step = 1e-6
    for tensor in (clean, adversarial):  # against central differences of the loss itself
        with torch.no_grad():
            up, down = tensor.detach().clone(), tensor.detach().clone()
            up[3, 2] += step
            down[3, 2] -= step
            given = (up, adversarial) if tensor is clean else (clean, up)
            taken = (down, adversarial) if tensor is clean else (clean, down)
            slope = (loss_of(name, *given, y).sum() - loss_of(name, *taken, y).sum()) / (2 * step)
        assert float(tensor.grad[3, 2]) == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["Standard", "AT", "TRADES"])
def test_label_smoothing_mixes_the_label_with_all_classes(name, logits):
    """sum_k t_k (-log q_k) with t = 1 - s + s/K at the label and s/K elsewhere; TRADES smooths its clean term."""
    p, q, rows, y = numpy_parts(logits)
    target = np.full(p.shape, 0.3 / 5)
    target[rows, y] += 0.7
    expected = -(target * np.log(p if name == "TRADES" else q)).sum(1)
    if name == "TRADES":
        expected = expected + BETA * kl(p, q)
    np.testing.assert_allclose(loss_of(name, *logits, label_smoothing=0.3), expected, rtol=1e-12)


def test_a_smoothed_loss_is_least_at_the_smoothed_label():
    """Two classes, margin m of the label: its derivative -(1 - s/2) + sigmoid(m) vanishes at log((2 - s) / s)."""
    m, s = torch.tensor(np.log((2 - 0.2) / 0.2)).requires_grad_(), 0.2
    loss = DEFENSES["AT"](complete({"label_smoothing": s})).loss(
        Logits(), torch.zeros(1, 2), torch.stack([m, 0 * m])[None], torch.tensor([0])
    )
    (slope,) = torch.autograd.grad(loss.sum(), m)
    assert abs(float(slope)) < 1e-12


def test_unknown_defense():
    with pytest.raises(LookupError, match="defense 'TRADE' is unknown; did you mean 'TRADES'"):
        DEFENSES["TRADE"]


def test_trades_gives_batchnorm_the_clean_and_then_the_adversarial_images_once():
    """With momentum 0.1 they weigh 0.09 and 0.1 in the running statistics (the authors': 0.181 and 0.09)."""
    norm = nn.BatchNorm1d(3)
    model = nn.Sequential(norm, nn.Linear(3, 2))
    x, x_adv = torch.rand(8, 3), torch.rand(8, 3)
    DEFENSES["TRADES"](complete({"defense": "TRADES"})).loss(model, x, x_adv, torch.zeros(8, dtype=torch.long))
    wanted = 0.09 * x.mean(dim=0) + 0.1 * x_adv.mean(dim=0)
    assert torch.allclose(norm.running_mean, wanted, rtol=1e-5)
