"""Gradient masking as outcomes show it: attacks that should not lose to weaker ones do. Imports no torch.

Signs of Athalye et al., ICML 2018, and Carlini et al., 2019 (On Evaluating Adversarial Robustness), each by an exact
test on the same images.
"""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

WHITE_BOX = ("pgd10", "pgd50x10", "apgd_ce", "apgd_t")  # that find what there is to find, if gradients tell
BLACK_BOX = ("square", "transfer")
LEVEL = 0.01  # of all tests of one kind on one model together
WIDER, FALL = 4.0, 0.02  # at so many times the eps, so many of the images that withstood an attack fall, at the least

Bits = NDArray[np.bool_]
Key = tuple[str, str, float]  # attack, norm, eps
Test = tuple[float, str]  # p, and the sign if it is small


def masking_signs(bits: Mapping[Key, Bits]) -> str:
    """'' for outcomes of one model that look honest; else what speaks against its gradients, for a table or a note.

    bits: (n,) whether each image is classified correctly under an attack, in one order of images, of which an outcome
    may have the first only; an attack may have options behind a '+'. Signs, by exact binomial tests, those of a kind
    together at the level .01 (Bonferroni):
    rises   at a larger eps, more images are right that are wrong at the next smaller one than the reverse (McNemar)
    flat    of the images that withstand the smallest eps, fewer than 2 % fall at the largest, 4 times as large or more
    beaten  Square, or examples of other models, break more images that a white-box attack does not than the reverse
            (McNemar)
    """
    kinds = [list(tests(bits)) for tests in (rises, flat, beaten)]
    return "; ".join(text for tests in kinds for p, text in tests if p <= LEVEL / len(tests))


def curves(bits: Mapping[Key, Bits]) -> Iterator[tuple[str, str, list[float]]]:
    """White-box attacks and norms, each with its eps, from small to large."""
    for attack, norm in dict.fromkeys(key[:2] for key in bits if base(key[0]) in WHITE_BOX):
        yield attack, norm, sorted(eps for *place, eps in bits if place == [attack, norm])


def rises(bits: Mapping[Key, Bits]) -> Iterator[Test]:
    for attack, norm, eps in curves(bits):
        for small, large in itertools.pairwise(eps):
            before, after = paired(bits[attack, norm, small], bits[attack, norm, large])
            risen = f"{before.mean():.1%} at {norm} {small:.4g} to {after.mean():.1%} at {large:.4g}"
            yield more_alone(before, after), f"{attack}: accuracy rises from {risen}"


def flat(bits: Mapping[Key, Bits]) -> Iterator[Test]:
    for attack, norm, eps in curves(bits):
        attacking = [value for value in eps if value > 0]
        if attacking and attacking[-1] >= WIDER * attacking[0]:
            small, large = attacking[0], attacking[-1]
            before, after = paired(bits[attack, norm, small], bits[attack, norm, large])
            fallen, stood = int((before & ~after).sum()), int(before.sum())
            sign = f"{attack}: {fallen} of {stood} images that withstand {norm} {small:.4g} fall at {large:.4g}"
            yield float(binom.cdf(fallen, stood, FALL)), sign


def beaten(bits: Mapping[Key, Bits]) -> Iterator[Test]:
    """At the same norm and eps."""
    for (white, norm, eps), (black, *place) in itertools.product(bits, bits):
        if base(white) in WHITE_BOX and base(black) in BLACK_BOX and place == [norm, eps] and eps > 0:
            stronger, weaker = paired(bits[white, norm, eps], bits[black, norm, eps])
            alone, other = int((stronger & ~weaker).sum()), int((~stronger & weaker).sum())
            sign = f"{black} breaks {alone} images that {white} does not, which breaks {other} that it does not"
            yield more_alone(weaker, stronger), f"{sign} ({norm} {eps:.4g})"


def more_alone(fallen: Bits, standing: Bits) -> float:
    """p, one-sided, of McNemar's exact test: as many images or more are right in `standing` alone, of all that are
    right in one alone, if each of both is as likely."""
    alone, other = int((~fallen & standing).sum()), int((fallen & ~standing).sum())
    return float(binom.sf(alone - 1, alone + other, 0.5))


def paired(first: Bits, second: Bits) -> tuple[Bits, Bits]:
    """Both on the images that both have."""
    count = min(len(first), len(second))
    return first[:count].astype(bool), second[:count].astype(bool)


def base(attack: str) -> str:
    return attack.partition("+")[0]
