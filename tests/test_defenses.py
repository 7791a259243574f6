"""Each loss against its published formula in NumPy, and each adversary's start, mode and direction."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from training import loop
from training.attacks import start
from training.defenses import DEFENSES, InnerAttack, kl_divergence
from training.settings import NA, complete

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


def test_the_attack_knows_nothing_of_label_smoothing():
    model, (x, y, index) = Linear(), batch()
    found = [
        DEFENSES["AT"](complete({"label_smoothing": s})).adversary(model, x, y, inner(index, 3)) for s in (0.0, 0.9)
    ]
    assert torch.equal(*found)


def test_unknown_defense():
    with pytest.raises(LookupError, match="defense 'TRADE' is unknown; did you mean 'TRADES'"):
        DEFENSES["TRADE"]


class Linear(nn.Module):
    """Two classes, logits of images (n, 1, 4, 4) in float64."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 2).double()
        with torch.no_grad():
            for p in self.linear.parameters():
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.dim()), dtype=torch.float64))

    def forward(self, x):
        return self.linear(x.flatten(1))

    @property
    def direction(self):
        """w_1 - w_0 as an image."""
        weight = self.linear.weight.detach()
        return (weight[1] - weight[0]).reshape(1, 1, 4, 4)


def batch(n=400):
    generator = torch.Generator().manual_seed(2)
    x = 0.4 + 0.2 * torch.rand(n, 1, 4, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(2, (n,), generator=generator), torch.arange(1000, 1000 + n)


def inner(index, steps, norm="Linf", eps=0.1):
    return InnerAttack(eps=eps, norm=norm, steps=steps, seed=0, stream=77, index=index)


def adversary(name, model, steps, norm="Linf"):
    x, y, index = batch()
    defense = DEFENSES[name](complete({"defense": name}))
    return defense.adversary(model, x, y, inner(index, steps, norm)) - x


def test_standard_trains_on_the_images_themselves():
    assert not adversary("Standard", Linear(), 10).any()


def test_at_starts_uniformly_in_the_ball():
    delta = adversary("AT", Linear(), 0)
    assert stats.kstest(delta.flatten().numpy() / 0.1, stats.uniform(-1, 2).cdf).pvalue > 0.01
    radius = adversary("AT", Linear(), 0, norm="L2").flatten(1).norm(dim=1) / 0.1
    assert stats.kstest((radius**16).numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("name", ["TRADES", "MART"])
def test_trades_and_mart_start_at_a_small_gaussian(name):
    delta = adversary(name, Linear(), 0)
    assert stats.kstest(delta.flatten().numpy() / 0.001, "norm").pvalue > 0.01


def test_starts_change_with_the_stream_and_are_keyed_by_image():
    x, y, index = batch()
    attack = inner(index, 0)
    first = attack(Linear(), x, y)
    assert torch.equal(attack(Linear(), x, y), first)
    assert not torch.equal(replace(attack, stream=1077)(Linear(), x, y), first)
    half = replace(attack, index=index[200:])(Linear(), x[200:], y[200:])
    assert torch.equal(half, first[200:])


@pytest.mark.parametrize("name", ["AT", "MART", "ALP"])
def test_at_mart_and_alp_maximise_cross_entropy(name):
    """On two linear classes the optimum is eps sign(w_other - w_y), whatever the start."""
    model, (_, y, _) = Linear(), batch()
    towards = (1.0 - 2.0 * y.double()).reshape(-1, 1, 1, 1)
    expected = 0.1 * towards * model.direction.sign()
    torch.testing.assert_close(adversary(name, model, 10), expected, rtol=0, atol=1e-12)


def test_trades_maximises_the_kl_divergence():
    """KL(f(x) || f(x')) grows on both sides of x: the side of the start decides, and the label does not."""
    model = Linear()
    begin = adversary("TRADES", model, 0)
    side = (begin * model.direction).sum((1, 2, 3), keepdim=True).sign()
    expected = 0.1 * side * model.direction.sign()
    torch.testing.assert_close(adversary("TRADES", model, 10), expected, rtol=0, atol=1e-12)
    _, y, _ = batch()
    assert all(((side.flatten() > 0) & (y == k)).sum() > 50 for k in (0, 1))  # both sides, both labels


@pytest.mark.parametrize("name", ["AT", "TRADES", "MART"])
def test_one_step_is_of_size_eps_from_the_start_and_projected(name):
    model, (x, y, index) = Linear(), batch()
    begin = adversary(name, model, 0)
    if name == "AT":
        assert torch.equal(begin + x, x + start(x, index, seed=0, eps=0.1, norm="Linf", stream=78))
    towards = (1.0 - 2.0 * y.double()).reshape(-1, 1, 1, 1)
    if name == "TRADES":
        towards = (begin * model.direction).sum((1, 2, 3), keepdim=True).sign()
    expected = (begin + 0.1 * towards * model.direction.sign()).clamp(-0.1, 0.1)
    torch.testing.assert_close(adversary(name, model, 1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("alpha", [1.25, 0.5])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_fgsm_rs_is_one_step_of_alpha_eps_from_the_uniform_start_of_at(alpha, norm):
    """The gradient of two linear classes has one direction everywhere, so the step is known."""
    model, (x, y, index) = Linear(), batch()
    defense = DEFENSES["FGSM-RS"](complete({"defense": "FGSM-RS", "fgsm_alpha": alpha}))
    found = defense.adversary(model, x, y, inner(index, 0, norm)) - x
    begin = adversary("AT", model, 0, norm)
    towards = (1.0 - 2.0 * y.double()).reshape(-1, 1, 1, 1)
    if norm == "Linf":
        expected = (begin + alpha * 0.1 * towards * model.direction.sign()).clamp(-0.1, 0.1)
    else:
        there = begin + alpha * 0.1 * towards * model.direction / model.direction.norm()
        expected = there * (0.1 / there.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)).clamp(max=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_fgsm_rs_with_two_eps_is_exact_on_a_linear_model():
    """From any start a step of 2 eps reaches the corner that is optimal there."""
    model, (x, y, index) = Linear(), batch()
    defense = DEFENSES["FGSM-RS"](complete({"defense": "FGSM-RS", "fgsm_alpha": 2.0}))
    found = defense.adversary(model, x, y, inner(index, 0)) - x
    towards = (1.0 - 2.0 * y.double()).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(found, 0.1 * towards * model.direction.sign(), rtol=0, atol=1e-12)


class Spy(nn.Module):
    """A network with BatchNorm and dropout that notes its mode at every forward."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2)).double()
        self.calls = []

    def forward(self, x):
        self.calls.append("train" if self.net[2].training else "eval")
        return self.net(x)


@pytest.mark.parametrize(
    "name, steps, awp, expected",
    [
        ("Standard", NA, False, ["train"]),
        ("Standard", NA, True, ["train"] * 2),
        ("AT", 3, False, ["eval"] * 3 + ["train"]),
        ("AT", 3, True, ["eval"] * 3 + ["train"] * 2),
        ("TRADES", 3, False, ["eval"] * 4 + ["train"] * 2),  # f(x) once for the KL; then f(x) and f(x_adv)
        ("TRADES", 3, True, ["eval"] * 4 + ["train"] * 4),
        ("MART", 3, False, ["eval"] * 3 + ["train"] * 2),
        ("MART", 1, True, ["eval"] + ["train"] * 4),
        ("FGSM-RS", NA, False, ["eval", "train"]),
        ("ALP", 2, True, ["eval"] * 2 + ["train"] * 4),
    ],
)
def test_inner_attacks_run_in_eval_mode_and_leave_the_model_as_it_was(name, steps, awp, expected):
    """Also counted: x_adv is made once, with AWP too."""
    model = Spy().train()
    model.net[3].eval()  # a part that somebody froze keeps its mode
    x, y, index = batch(20)
    settings = complete({"defense": name, "inner_steps": steps, "awp": awp, "eps": "1/10", "lr": 0.01})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loop.train_step(model, optimizer, loop.Batch(x, y, index), settings, epoch=0)
    assert model.calls == expected
    assert model.training and model.net[2].training and not model.net[3].training
    assert all(p.requires_grad for p in model.parameters())
