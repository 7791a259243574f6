"""Ledgers with known answers: the verdict that each kind of measure deserves, and its true tau, are known by design.

A design is a full factorial of 4 axes (3 x 2 x 2 x 2 = 24 configurations, or 4 x 4 x 2 x 2 = 64), with 2 seeds and
the checkpoints {last, best} of every run. The gap of configuration c, seed s and checkpoint k is

    gap = f(settings of c) + u_c + v_csk + e_csk

    f       SD 1 over the design: main effects and all two-way interactions, drawn once per ledger and scaled to the
            shares of variance MAIN (defense first) and PAIRS (defense x batch first); no higher interactions
    u_c     configuration: N(0, 0.5^2), what settings do that neither main effects nor two-way interactions can say
    v_csk   seed: N(0, 0.3^2), correlation 0.8 between the two checkpoints of a run
    e_csk   images: N(0, 0.2^2), independent; 0.2 is also the column `se_gap`

The run's expected gap (over images) is f + u + v; the configuration's (over seeds) is f + u.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

DESIGNS = {24: (3, 2, 2, 2), 64: (4, 4, 2, 2)}
AXES = ["defense", "batch", "augment", "awp", "checkpoint"]
CONFIGURATION_SD, SEED_SD, IMAGE_SD, BETWEEN_CHECKPOINTS = 0.5, 0.3, 0.2, 0.8
MAIN = (0.40, 0.10, 0.10, 0.10)  # shares of the variance of f
PAIRS = (0.15, 0.03, 0.03, 0.03, 0.03, 0.03)
PARTIAL = 0.6  # correlation of the genuine measure with the run's expected gap, given the settings
RUN_VARIANCE = CONFIGURATION_SD**2 + SEED_SD**2
NOISE_SD = float(np.sqrt(RUN_VARIANCE * (1 / PARTIAL**2 - 1)))


@dataclass(frozen=True)
class World:
    """What is fixed when the gaps of a ledger are drawn: the design and the effects of its settings.

    level (configurations, 4): value numbers of the four axes; f (configurations,): settings' effect on the gap;
    axis_effect, pair_effect: parts of f made by defense, and by defense and batch (with their interaction).
    """

    level: np.ndarray
    f: np.ndarray
    axis_effect: np.ndarray
    pair_effect: np.ndarray


@dataclass(frozen=True)
class Ledger:
    """table: one row per model with AXES, seed, gap, se_gap and the column m; run_gap, configuration_gap (n,): its
    expected gap over images, and over images and seeds."""

    table: pd.DataFrame
    run_gap: np.ndarray
    configuration_gap: np.ndarray


def scaled(effect: np.ndarray, share: float) -> np.ndarray:
    """`effect`, with mean 0 and variance `share` over the configurations."""
    effect = effect - effect.mean()
    return effect * np.sqrt(share / effect.var())


def make_world(configurations: int, rng: np.random.Generator) -> World:
    """The design with that many configurations, and settings' effects drawn for it."""
    sizes = DESIGNS[configurations]
    grid = rng.standard_normal
    level = np.array(list(itertools.product(*map(range, sizes))))
    mains = [
        scaled(grid(size)[level[:, axis]], share) for axis, (size, share) in enumerate(zip(sizes, MAIN, strict=True))
    ]
    pairs = []
    for (a, b), share in zip(itertools.combinations(range(4), 2), PAIRS, strict=True):
        table = grid((sizes[a], sizes[b]))
        table = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
        pairs.append(scaled(table[level[:, a], level[:, b]], share))
    return World(level, sum(mains) + sum(pairs), mains[0], mains[0] + mains[1] + pairs[0])


def null(world: World, gap: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A number drawn for every model by itself. True tau 0; no relation with anything."""
    return rng.standard_normal(gap.shape)


def clustered_null(world: World, gap: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A number drawn for every configuration, and a tenth of its SD for every model. True tau 0."""
    return rng.standard_normal((*gap.shape[:-2], 1, 1)) + 0.1 * rng.standard_normal(gap.shape)


def axis_proxy(world: World, gap: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pure function of one axis: what defense does to the gap. It knows nothing that the settings do not say."""
    return np.broadcast_to(world.axis_effect[:, None, None], gap.shape).copy()


def interaction_proxy(world: World, gap: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pure function of two axes that is no sum of functions of each: what defense and batch together do to the gap,
    their interaction included (23 % of its variance)."""
    return np.broadcast_to(world.pair_effect[:, None, None], gap.shape).copy()


def genuine(world: World, gap: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The run's expected gap, plus noise of SD NOISE_SD = sqrt(0.34 (1/0.36 - 1)) = 0.78 drawn for every model, so
    that its partial correlation with the run's expected gap, given the settings, is 0.6."""
    return gap + NOISE_SD * rng.standard_normal(gap.shape)


def sign_flip(world: World, gap: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The genuine measure, its sign reversed under the later half of the defenses (3: the last; 4: the last two)."""
    sign = np.where(world.level[:, 0] < (world.level[:, 0].max() + 2) // 2, 1, -1)
    return sign[:, None, None] * genuine(world, gap, rng)


def noisy_proxy(world: World, gap: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The proxy of one axis, with noise of SD 0.1 drawn for every model, as if it were measured."""
    return axis_proxy(world, gap, rng) + 0.1 * rng.standard_normal(gap.shape)


def noisy_settings(world: World, gap: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All that settings do to the gap, f, with noise of SD 0.1: the strongest proxy there is. It predicts the gap of an
    unseen configuration better than settings whose effects must be learnt, and still knows nothing beyond them."""
    return world.f[:, None, None] + 0.1 * rng.standard_normal(gap.shape)


KINDS = {
    kind.__name__: kind
    for kind in (
        *(null, clustered_null, axis_proxy, interaction_proxy, genuine, sign_flip),
        *(noisy_proxy, noisy_settings),
    )
}
FAMILY = {f"{kind}_{number}": kind for number in range(3) for kind in ("null", "clustered_null")}
FAMILY |= {kind: kind for kind in ("axis_proxy", "interaction_proxy", "genuine", "sign_flip")}
# The position is a key of the random numbers: new names go to the end.
STREAMS = (
    *("null", "clustered_null", "axis_proxy", "interaction_proxy", "genuine", "sign_flip"),
    *("family", "noisy_proxy", "noisy_settings"),
)


def deviations(world: World, rng: np.random.Generator, copies: int) -> tuple[np.ndarray, np.ndarray]:
    """u (copies, configurations, 1, 1) and v (copies, configurations, 2 seeds, 2 checkpoints)."""
    many = len(world.f)
    u = CONFIGURATION_SD * rng.standard_normal((copies, many, 1, 1))
    shared, own = rng.standard_normal((copies, many, 2, 1)), rng.standard_normal((copies, many, 2, 2))
    return u, SEED_SD * (np.sqrt(BETWEEN_CHECKPOINTS) * shared + np.sqrt(1 - BETWEEN_CHECKPOINTS) * own)


def draw(world: World, columns: dict[str, str], rng: np.random.Generator) -> Ledger:
    """A ledger from a world. columns: {name of a measure: its kind}."""
    u, v = deviations(world, rng, 1)
    expected = world.f[:, None, None] + u[0]
    gap = expected + v[0]
    observed = gap + IMAGE_SD * rng.standard_normal(gap.shape)
    keys = itertools.product(world.level, ("0", "1"), ("last", "best"))
    rows = [
        [*(f"{axis}{value}" for axis, value in zip(AXES, level, strict=False)), checkpoint, seed]
        for level, seed, checkpoint in keys
    ]
    table = pd.DataFrame(rows, columns=[*AXES, "seed"]).assign(gap=observed.ravel(), se_gap=IMAGE_SD)
    measures = {name: KINDS[kind](world, gap, rng).ravel() for name, kind in columns.items()}
    return Ledger(table.assign(**measures), gap.ravel(), np.broadcast_to(expected, gap.shape).ravel())


def make(kind: str, configurations: int, number: int) -> tuple[World, Ledger]:
    """Ledger `number` with one measure `m` of a kind: the same for the same three arguments, whatever else is drawn."""
    rng = np.random.default_rng([number, configurations, STREAMS.index(kind)])
    world = make_world(configurations, rng)
    return world, draw(world, {"m": kind}, rng)


def make_family(configurations: int, number: int) -> Ledger:
    """Ledger `number` with the ten measures FAMILY, all about the same gaps."""
    rng = np.random.default_rng([number, configurations, STREAMS.index("family")])
    return draw(make_world(configurations, rng), FAMILY, rng)


def true_ceilings(ledger: Ledger, rng: np.random.Generator, copies: int = 20) -> tuple[float, float]:
    """tau of runs' true gaps with gaps observed on other images, and of configurations' true gaps with gaps observed
    with other seeds and other images: what measures equal to those true gaps would reach."""
    run, configuration, taus = ledger.run_gap, ledger.configuration_gap, []
    for _ in range(copies):
        images = IMAGE_SD * rng.standard_normal((2, len(run)))
        shared, own = rng.standard_normal((len(run) // 4, 2, 1)), rng.standard_normal((len(run) // 4, 2, 2))
        seeds = SEED_SD * (np.sqrt(BETWEEN_CHECKPOINTS) * shared + np.sqrt(1 - BETWEEN_CHECKPOINTS) * own)
        taus.append(
            [plain_tau(run, run + images[0]), plain_tau(configuration, configuration + seeds.ravel() + images[1])]
        )
    return tuple(np.mean(taus, axis=0))


def true_tau(world: World, kind: str, rng: np.random.Generator, copies: int = 300) -> float:
    """The generator's own value: tau-b of the measure with the *expected* gaps of runs, over configurations with this
    design's margins.

    The settings and their effects f stay, as the design fixes them; u, v and the measure's own draws are drawn anew in
    each of `copies` ledgers, and tau is averaged over them (standard error below 0.1 / sqrt(copies)).
    """
    u, v = deviations(world, rng, copies)
    gaps = world.f[:, None, None] + u + v
    measures = KINDS[kind](world, gaps, rng)
    return float(np.mean([plain_tau(m.ravel(), gap.ravel()) for m, gap in zip(measures, gaps, strict=True)]))


def plain_tau(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's tau-b from all pairs."""
    sx, sy = (np.sign(values[:, None] - values).astype(np.int8) for values in (x, y))
    return (sx * sy).sum(dtype=int) / np.sqrt(float(np.count_nonzero(sx)) * np.count_nonzero(sy))
