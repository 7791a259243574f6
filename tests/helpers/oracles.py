"""Models whose measures can be written down. All in float64 and eval mode, weights a function of a seed."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustgap.measures import evaluate

SHAPE = (1, 4, 4)
D = 16  # pixels of such an image
CLASSES = 3
EPS = 0.02
N = 20  # images of the fixture `data`


def draw(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    """N(0, scale^2) numbers in float64."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def images(n: int, shape: tuple[int, ...] = SHAPE, *, low: float = 0.3, high: float = 0.7, seed: int = 0) -> Tensor:
    """Uniform images; inside [0.3, 0.7] a small attack meets no border of the box."""
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(n, *shape, generator=generator, dtype=torch.float64)


def labels(n: int, classes: int = CLASSES) -> Tensor:
    return torch.arange(n) % classes


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """f(x) = W x + b on flattened images: (k, d), (k,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return nn.Sequential(nn.Flatten(), layer).eval()


def set_weights(model: nn.Module, *, seed: int, scale: float = 1.0) -> nn.Module:
    """Gaussian weights of variance scale^2 / fan-in, small biases, and for BatchNorm everything away from 0 and 1."""
    with torch.no_grad():
        for place, (name, tensor) in enumerate([*model.named_parameters(), *model.named_buffers()]):
            if not tensor.is_floating_point():
                continue
            noise = draw(*tensor.shape, seed=1000 * seed + place)
            if tensor.dim() > 1:
                tensor.copy_(scale * noise / tensor[0].numel() ** 0.5)
            elif name.endswith(("running_var", "weight")):
                tensor.copy_(0.5 + noise.abs())
            else:
                tensor.copy_(0.1 * noise)
    return model.double().eval()


def relu_net(*, seed: int = 1, hidden: int = 8, scale: float = 2.0) -> nn.Module:
    """Two layers: W2 relu(W1 x + b1) + b2 on flattened 4 x 4 images."""
    inputs = SHAPE[1] * SHAPE[2]
    layers = nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES)
    return set_weights(nn.Sequential(nn.Flatten(), *layers).double(), seed=seed, scale=scale)


def conv_net(*, seed: int = 1, scale: float = 2.0) -> nn.Module:
    """Convolution, BatchNorm, ReLU, 2 x 2 average pooling, linear layer."""
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, CLASSES),
    )
    return set_weights(network.double(), seed=seed, scale=scale)


class QuadraticLoss(nn.Module):
    """A two-class model whose cross-entropy for label 0 is q(w) = w^T H w / 2 + c, whatever the image."""

    def __init__(self, hessian: Tensor, weight: Tensor, constant: float = 0.1):
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.hessian, self.constant = hessian, constant
        self.eval()

    def loss(self, weight: Tensor) -> Tensor:
        return weight @ self.hessian @ weight / 2 + self.constant

    def forward(self, x: Tensor) -> Tensor:
        loss = self.loss(self.weight)
        logits = torch.stack([-loss, torch.log(-torch.expm1(-loss))])
        return logits + 0 * x.flatten(1).sum(dim=1, keepdim=True)


class Faulty(nn.Module):
    """A linear model with one fault: nan (every logit), no_gradient (asking for it raises), constant (in its input)."""

    def __init__(self, fault: str, classes: int = CLASSES):
        super().__init__()
        self.fault = fault
        self.layer = nn.Linear(SHAPE[1] * SHAPE[2], classes, dtype=torch.float64)
        set_weights(self.layer, seed=3)
        if fault == "constant":
            nn.init.zeros_(self.layer.weight)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.layer(x.flatten(1))
        if self.fault == "nan":
            return logits * torch.nan
        if self.fault == "no_gradient" and torch.is_grad_enabled():
            raise RuntimeError("this model has no gradient")
        return logits


def explicit_matrix(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The matrix of a linear map of images of that shape (its bias left out): (outputs, inputs)."""
    basis = torch.eye(int(torch.tensor(shape).prod()), dtype=torch.float64).reshape(-1, *shape)
    with torch.no_grad():
        return (layer(basis) - layer(torch.zeros(1, *shape, dtype=torch.float64))).flatten(1).T


def robust_loss_linear(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Largest cross-entropy of a two-class linear model in the Linf ball (no border of the box in reach): (n,).

    The margin m = (w_y - w_other) x + b_y - b_other falls by eps ||w_y - w_other||_1, and the loss is log(1 + e^-m).
    """
    sign = 1 - 2 * y.double()
    margin = sign * (x.flatten(1) @ (weight[0] - weight[1]) + bias[0] - bias[1])
    return F.softplus(eps * (weight[0] - weight[1]).abs().sum() - margin)


def measured(
    model: nn.Module, x: Tensor, y: Tensor, name: str, *, eps: float = EPS, **options: object
) -> tuple[dict[str, float], dict[str, float]]:
    """{variant: value} of one measure, and {variant: standard error}; every value must be there."""
    table = evaluate(model, x, y, [name], eps=eps, **options)
    assert (table["reason"].str.startswith("note: ") | (table["reason"] == "")).all(), table["reason"].tolist()
    values = dict(zip(table["variant"], table["value"], strict=True))
    return values, dict(zip(table["variant"], table["se"], strict=True))


def two_classes(scale: float = 1.0, seed: int = 5) -> tuple[nn.Module, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A two-class linear model, its weight and bias, 64 images, labels, and the images after the exact Linf attack."""
    weight, bias = draw(2, D, seed=seed, scale=scale), draw(2, seed=seed + 1, scale=0.1)
    x, y = images(64), labels(64, 2)
    direction = torch.sign(weight[1 - y] - weight[y]).reshape(x.shape)
    return linear(weight, bias), weight, bias, x, y, x + EPS * direction
