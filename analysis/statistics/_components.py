"""Variance components of an outcome over a factorial study with seeds and checkpoints, by the method of moments.

The outcome of configuration c, seed s and checkpoint rule k is modelled as

    y_csk = m_k + b_c + a_ck + r_cs + d_csk + e_csk

m_k mean of the checkpoint rule; b_c configuration (including the effects of its settings); a_ck effect of the
checkpoint rule in this configuration; r_cs seed, shared by a run's checkpoints; d_csk checkpoint within run; e_csk
image sampling, with known standard errors. All terms but m have mean 0, and variances beta, alpha, rho, delta; the
errors' variances are given, as are their correlations, since models are evaluated on the same images
(analysis.models.shared_images). Noise common to all models shifts all gaps equally, does not change their order, and is
left out.

Within configurations, residual sums of squares (about cells c, k and runs; about cells alone) have expectations linear
in delta and rho; half the mean square of differences *between* configurations is linear in beta and alpha. Weights are
multiplicities of configurations, and a pair of copies of the same one never counts, so the estimates stay unbiased in
draws of a configuration bootstrap. Negative estimates are set to 0. C. R. Henderson, Estimation of variance and
covariance components, Biometrics 1953 (method 3).
"""

from dataclasses import dataclass

import numpy as np

from robustgap.analysis.models.shared_images import Sharing
from robustgap.analysis.statistics.reliability import across_blocks

EVERY = -1  # the checkpoint rule of a model that is both checkpoints of its run


@dataclass(frozen=True)
class Levels:
    """Indices 0, 1, ... of each model's configuration, run (configuration and seed) and checkpoint rule, each (n,).

    rule is EVERY for a model that is both checkpoints of its run: one model, with a single draw of the seed, checkpoint
    and image effects. Its outcome is the run's under both rules, so it counts in the mean of both cells; its expected
    value is halfway between theirs.
    """

    configuration: np.ndarray
    run: np.ndarray
    rule: np.ndarray

    @property
    def rules(self) -> int:
        """Number of checkpoint rules."""
        return max(int(self.rule.max(initial=0)) + 1, 2 * int((self.rule == EVERY).any()))

    def in_rules(self) -> np.ndarray:
        """Whether each model counts under each rule: (rules, n) bool."""
        return np.asarray((self.rule == np.arange(self.rules)[:, None]) | (self.rule == EVERY))

    def share(self) -> np.ndarray:
        """Weight of each rule's mean in each model's expected value: (rules, n), summing to 1."""
        in_rules = self.in_rules()
        return np.asarray(in_rules / in_rules.sum(axis=0))

    def rule_means(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Expected outcome of each model, the weighted mean of y (n,) under its rule; (n,)."""
        share = self.share()
        rule, model = np.nonzero(share)
        weight = share[rule, model] * weights[model]
        total, size = np.bincount(rule, weight * y[model]), np.bincount(rule, weight)
        return np.asarray((total / np.maximum(size, 1)) @ share)

    @property
    def blocks(self) -> list[np.ndarray]:
        """The row indices of each configuration."""
        order = np.argsort(self.configuration, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.configuration))[:-1])


@dataclass(frozen=True)
class Components:
    """Variances of the model above, each (draws,); NaN if the design does not identify them."""

    beta: np.ndarray
    alpha: np.ndarray
    rho: np.ndarray
    delta: np.ndarray


def image_covariance(se: np.ndarray, run: np.ndarray, shared: Sharing) -> np.ndarray:
    """Covariance (..., m, m) of the image noise of one configuration's models (..., m), without the noise common to all
    models."""
    correlation = np.where(run[..., :, None] == run[..., None, :], shared.run, shared.configuration)
    np.einsum("...ii->...i", correlation)[...] = 1
    return np.asarray((correlation - shared.everywhere) * se[..., :, None] * se[..., None, :])


def run_sums(run: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sums of each row (k, m) over the models of each run (m,): (k, runs)."""
    sums = np.zeros((len(rows), run.max() + 1))
    for index, row in enumerate(rows):
        sums[index] = np.bincount(run, row)
    return sums


def moments(rows: np.ndarray, se: np.ndarray, run: np.ndarray, shared: Sharing) -> dict[str, np.ndarray]:
    """Covariances (k, k) of the combinations `rows` (k, m) of one configuration's models, contributed by seeds (rho =
    1), checkpoints (delta = 1) and images; run (m,): 0, 1, ...

    `rows @ covariance @ rows.T`, computed from sums over runs: no m x m matrix is formed, since m may be thousands of
    seeds.
    """

    def by_run(part: np.ndarray) -> np.ndarray:
        sums = run_sums(run, part)
        return np.asarray(sums @ sums.T)

    scaled = rows * se
    total = scaled.sum(axis=1)
    image = (shared.configuration - shared.everywhere) * np.outer(total, total)
    image += (shared.run - shared.configuration) * by_run(scaled) + (1 - shared.run) * scaled @ scaled.T
    return {"rho": by_run(rows), "delta": rows @ rows.T, "image": image}


def orthonormal(rows: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the row space of `rows` (k, m)."""
    values, vectors = np.linalg.eigh(rows @ rows.T)
    kept = values > 1e-9
    return np.asarray((vectors[:, kept] / np.sqrt(values[kept])).T @ rows)


def run_basis(rules: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the span of the rows `rules` (k, m) beyond the indicators of runs."""
    return orthonormal(rules - (run_sums(run, rules) / np.bincount(run))[:, run])


def project_out_cells(y: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal rows spanning the shares (rules, m) of a configuration's cells in its models' means, and the outcomes
    y (m,) with these projected out."""
    share = share[share.any(axis=1)]
    if (share.max(axis=0) < 1).any():
        basis = orthonormal(share)
        return basis, y - basis.T @ (basis @ y)
    size, rule = share.sum(axis=1), share.argmax(axis=0)  # each model is in one cell: plain means
    return share / np.sqrt(size)[:, None], y - (np.bincount(rule, y) / size)[rule]


def within_configurations(y: np.ndarray, se: np.ndarray, levels: Levels, shared: Sharing) -> dict[str, np.ndarray]:
    """For each configuration: sums of squares, their expectation for delta = 1 or rho = 1, and from images alone.

    inner: residuals of y on cells and runs (only delta and images); outer: what runs explain beyond cells. With P the
    projections onto runs, onto the span of cells beyond runs, and onto cells: inner = I - P_runs - P_beyond, outer =
    P_runs + P_beyond - P_cells.
    """
    rows, share = [], levels.share()
    for block in levels.blocks:
        run = np.unique(levels.run[block], return_inverse=True)[1]
        size, scale = np.bincount(run), se[block]
        cells, values = project_out_cells(y[block], share[:, block])
        beyond = run_basis(cells, run)
        traces = {name: np.trace(part) for name, part in moments(beyond, scale, run, shared).items()}
        traces["rho"] += len(block)  # the projection onto runs: 1 / size within each
        traces["delta"] += len(size)
        traces["image"] += (shared.run - shared.everywhere) * (np.bincount(run, scale) ** 2 / size).sum()
        traces["image"] += (1 - shared.run) * (scale**2 / size[run]).sum()
        explained = (np.bincount(run, values) ** 2 / size).sum() + ((beyond @ values) ** 2).sum()
        row = {"inner": (values**2).sum() - explained, "inner_delta": len(block) - traces["delta"]}
        row["inner_image"] = (1 - shared.everywhere) * (scale**2).sum() - traces["image"]
        row["outer"] = explained  # of values with the cells projected out
        outer = {name: traces[name] - np.trace(part) for name, part in moments(cells, scale, run, shared).items()}
        rows.append(row | {f"outer_{name}": number for name, number in outer.items()})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def nonnegative_ratio(total: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """max(0, total / factor), NaN if the factor is 0 up to rounding."""
    identified = factor > 1e-9
    return np.where(identified, np.maximum(total, 0) / np.where(identified, factor, 1), np.nan)


def pair_average(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of values (blocks,) over pairs of different blocks, in each draw of weights (draws, blocks)."""
    pairs = weights * (weights.sum(axis=1, keepdims=True) - weights)
    total = pairs.sum(axis=1)
    return np.where(total > 0, pairs @ values / np.where(total > 0, total, 1), np.nan)


def cells(y: np.ndarray, se: np.ndarray, levels: Levels, shared: Sharing) -> dict[str, np.ndarray]:
    """For each configuration, the means of its cells (NaN for missing cells), their count, and the contribution of
    seeds (rho = 1), checkpoints (delta = 1) and images to the variance of the mean of the cells (`mean_*`) and to the
    sum of the cells' variances about it (`about_*`)."""
    in_rules = levels.in_rules()
    means, rows = np.full((len(levels.blocks), levels.rules), np.nan), []
    for index, block in enumerate(levels.blocks):
        run, in_rule = levels.run[block], in_rules[:, block]
        present = np.flatnonzero(in_rule.any(axis=1))
        averages = in_rule[present] / in_rule[present].sum(axis=1, keepdims=True)
        means[index, present] = averages @ y[block]
        row = {"count": len(present)}
        for name, noise in moments(averages, se[block], np.unique(run, return_inverse=True)[1], shared).items():
            row |= {f"mean_{name}": noise.mean(), f"about_{name}": np.trace(noise) - noise.sum() / len(present)}
        rows.append(row)
    return {"means": means} | {name: np.array([row[name] for row in rows]) for name in rows[0]}


def centred(means: np.ndarray) -> np.ndarray:
    """Cell means (configurations, rules) minus the mean of each checkpoint rule."""
    return np.asarray(means - np.nanmean(means, axis=0))


def components(
    y: np.ndarray, se: np.ndarray, levels: Levels, shared: Sharing, weights: np.ndarray
) -> tuple[Components, dict[str, np.ndarray]]:
    """The four variances in every draw, and the table returned by `cells`.

    y, se (n,): outcome and its standard error from image sampling, without missing values; weights (draws,
    configurations). Unidentified variances are NaN: rho and delta if no cell has two seeds (they are then part of beta
    and alpha), delta and alpha with a single checkpoint rule, beta with a single configuration.
    """
    totals = {name: weights @ values for name, values in within_configurations(y, se, levels, shared).items()}
    delta = nonnegative_ratio(totals["inner"] - totals["inner_image"], totals["inner_delta"])
    known_delta = np.nan_to_num(delta)
    remaining = totals["outer"] - totals["outer_image"] - known_delta * totals["outer_delta"]
    rho = nonnegative_ratio(remaining, totals["outer_rho"])
    table = cells(y, se, levels, shared)

    def noise(part: str, rows: np.ndarray) -> np.ndarray:
        """Contribution of seeds, checkpoints and images, averaged as in `across_blocks`, over configurations."""
        names = [f"{part}_{name}" for name in ("rho", "delta", "image")]
        by_rho, by_delta, by_image = (pair_average(table[name][rows], weights[:, rows]) for name in names)
        return np.asarray(np.nan_to_num(rho) * by_rho + known_delta * by_delta + by_image)

    means, count = centred(table["means"]), table["count"]
    complete = np.flatnonzero(count == means.shape[1])
    alpha = np.full(len(weights), np.nan)
    if means.shape[1] > 1 and len(complete) > 1:
        deviations = means[complete] - means[complete].mean(axis=1, keepdims=True)
        spread = sum(across_blocks(column, np.arange(len(complete)), weights[:, complete]) for column in deviations.T)
        known = ~np.isnan(spread)
        alpha = np.where(known, np.maximum(spread - noise("about", complete), 0) / (means.shape[1] - 1), np.nan)
    spread = across_blocks(np.nanmean(means, axis=1), np.arange(len(means)), weights)
    all_rows = np.arange(len(means))
    beta = spread - noise("mean", all_rows) - np.nan_to_num(alpha) * pair_average(1 / count, weights)
    return Components(np.maximum(beta, 0), alpha, rho, delta), table
