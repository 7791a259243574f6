"""A training that breaks down is flagged, listed and kept; one that is slow, noisy or trades accuracies is not."""

import pytest
from small_runs import train

from robustgap.analysis.words import FLAGS
from robustgap.training import loop
from robustgap.training.divergence import DIVERGED, diverged

# Clean accuracy on 100 training images after each epoch of real trainings of MLPs on digits, in percent.
REAL = {
    "MART at lr 0.1, ends at 28 %": (
        [
            84,
            89,
            73,
            96,
            78,
            78,
            90,
            76,
            80,
            76,
            65,
            80,
            78,
            44,
            60,
            55,
            24,
            28,
            33,
            19,
            20,
            20,
            20,
            15,
            21,
            21,
            22,
            19,
            21,
            20,
            24,
            20,
            19,
            20,
            18,
            20,
            22,
            23,
            25,
            22,
        ],
        True,
    ),
    "MART at lr 0.1, ends at 40 %": (
        [
            62,
            78,
            86,
            81,
            83,
            86,
            81,
            73,
            68,
            62,
            75,
            54,
            89,
            69,
            84,
            92,
            73,
            42,
            14,
            18,
            21,
            29,
            22,
            26,
            27,
            27,
            23,
            40,
            27,
            41,
            37,
            38,
            39,
            39,
            41,
            40,
            42,
            38,
            44,
            38,
        ],
        True,
    ),
    "the same settings on another CPU, down to 56 % and back": (
        [
            62,
            78,
            86,
            86,
            75,
            75,
            92,
            66,
            62,
            73,
            87,
            81,
            88,
            65,
            66,
            73,
            80,
            56,
            70,
            85,
            92,
            89,
            94,
            94,
            94,
            94,
            95,
            96,
            94,
            97,
            97,
            97,
            97,
            97,
            97,
            97,
            97,
            97,
            97,
            97,
        ],
        False,
    ),
    "AT with AWP and crop, gives up clean accuracy": (
        [
            5,
            25,
            58,
            55,
            56,
            57,
            76,
            79,
            78,
            82,
            84,
            78,
            74,
            73,
            74,
            74,
            74,
            74,
            74,
            74,
            74,
            74,
            74,
            74,
            74,
            74,
            74,
            74,
            74,
            74,
        ],
        False,
    ),
    "MART, slow": (
        [
            2,
            14,
            31,
            40,
            46,
            56,
            72,
            76,
            77,
            77,
            81,
            79,
            80,
            84,
            85,
            85,
            85,
            84,
            85,
            84,
            85,
            84,
            85,
            85,
            85,
            85,
            85,
            85,
            85,
            85,
        ],
        False,
    ),
    "Standard": (
        [
            74,
            86,
            89,
            95,
            98,
            99,
            100,
            99,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
            100,
        ],
        False,
    ),
}


def log_of(*percent):
    return [{"train_clean": one / 100} for one in percent]


@pytest.mark.parametrize("percent, holds", REAL.values(), ids=REAL)
def test_real_trainings(percent, holds):
    assert diverged(log_of(*percent), images=100, classes=10) is holds


@pytest.mark.parametrize(
    "percent, holds",
    [
        ([30, 90, 100, 74], True),
        ([30, 90, 100, 76], False),  # three quarters are left
        ([100, 10, 10, 76], False),  # it came back
        ([10, 12, 10, 45], False),  # late to start
        ([10, 18, 10, 2], False),  # never above chance, which ends at 19 with 100 images and 10 classes
        ([10, 20, 10, 3], True),
        ([95], False),
        ([], False),
    ],
)
def test_it_ends_far_below_what_it_had_reached(percent, holds):
    assert diverged(log_of(*percent), images=100, classes=10) is holds


def test_a_fall_counts_where_the_draw_of_images_does_not_explain_it():
    """c* = 0.8, c = 0.5: 0.3 against 3 sqrt((0.16 + 0.25) / n), which is 0.3 at n = 41."""
    assert not diverged(log_of(80, 50), images=40, classes=10) and diverged(log_of(80, 50), images=42, classes=10)


def test_a_run_that_shows_it_is_flagged_and_not_called_collapsed(tmp_path, monkeypatch):
    said = iter([0.9, 0.95, 0.4])
    others = {"train_robust": 0.5, "val_clean": 0.9, "val_robust": 0.5, "val_fgsm": 0.5}
    monkeypatch.setattr(loop, "epoch_scores", lambda *_: {"train_clean": next(said), **others})
    _, record = train(tmp_path)
    assert DIVERGED in record["flags"] and record["status"] == "finished"
    assert FLAGS[DIVERGED].reason and FLAGS[DIVERGED].models
