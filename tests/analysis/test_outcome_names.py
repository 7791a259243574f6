"""Ids of outcomes and columns of models are told by one place, and told to readers in words."""

import pytest

from robustgap.analysis.outcome_names import OutcomeColumn, OutcomeId, columns_of, resolved
from robustgap.analysis.words import CONDITIONS, explained_words, noun, outcome_name, unit

IDS = {
    "pgd10": (OutcomeId("pgd10"), "PGD-10"),
    "pgd10@Linf:4/255": (OutcomeId("pgd10", "Linf", "4/255"), "PGD-10 at L∞ 4/255"),
    "pgd50x10@L2:1/2": (OutcomeId("pgd50x10", "L2", "1/2"), "PGD-50 (10 restarts) at L2 1/2"),
    "targeted_pgd>3": (OutcomeId("targeted_pgd", target="3"), "targeted PGD-10 towards class 3"),
    "square@L2:1/2>each": (OutcomeId("square", "L2", "1/2", "each"), "Square towards each other class at L2 1/2"),
    "autoattack+until=apgd_ce": (
        OutcomeId("autoattack", options=(("until", "apgd_ce"),)),
        "AutoAttack (until APGD-CE)",
    ),
    "corruption@severity:3+kind=fog+seed=1": (
        OutcomeId("corruption", "severity", "3", options=(("kind", "fog"), ("seed", "1"))),
        "common-corruption at severity 3 (kind fog, seed 1)",
    ),
}


@pytest.mark.parametrize("outcome", IDS)
def test_an_id_has_parts_and_words(outcome):
    parts, words = IDS[outcome]
    assert OutcomeId.read(outcome) == parts
    assert outcome_name(outcome).lower() == words.lower()
    assert outcome_name("clean", CONDITIONS) == "no attack"


@pytest.mark.parametrize("outcome", [*IDS, "my_rest_attack"])
def test_every_column_of_an_outcome_is_told_from_the_others(outcome):
    gap, rest, train, test, loss_train, loss_test = map(OutcomeColumn.read, columns_of(outcome, losses=True))
    assert {one.outcome for one in (gap, rest, train, test, loss_train, loss_test)} == {outcome}
    assert [one.kind for one in (gap, rest, train, test)] == ["gap", "gap", "train", "test"]
    assert loss_train.kind == loss_test.kind == "loss" and not loss_test.is_accuracy
    assert [one.rest for one in (gap, rest, train)] == [False, True, False]
    assert gap.splits == ("train", "test") and rest.splits == ("train_rest", "test")
    assert train.splits == loss_train.splits == ("train",) and test.splits == loss_test.splits == ("test",)


def test_other_columns_belong_to_no_outcome():
    for column in ("train_loss", "average_ce.adv", "path_norm"):
        assert OutcomeColumn.read(column) == OutcomeColumn(column, "other")
    assert OutcomeColumn.read("sharpness_test", ["sharpness_test"]).kind == "other"
    assert OutcomeColumn.read("train_loss").shown == "pgd10"


def test_words_of_columns():
    told = {column: explained_words(OutcomeColumn.read(column)) for column in columns_of("fgsm@L2:1/2", losses=True)}
    assert told == {
        "gap_fgsm@L2:1/2": "FGSM at L2 1/2 generalization gap",
        "gap_fgsm@L2:1/2_rest": "FGSM at L2 1/2 generalization gap (training images that no measure saw)",
        "fgsm@L2:1/2_train": "FGSM at L2 1/2 accuracy on training images",
        "fgsm@L2:1/2_test": "FGSM at L2 1/2 accuracy on test images",
        "loss_fgsm@L2:1/2_train": "FGSM at L2 1/2 loss on training images",
        "loss_fgsm@L2:1/2_test": "FGSM at L2 1/2 loss on test images",
    }
    assert [noun(OutcomeColumn.read(name)) for name in ("gap_a", "a_test", "loss_a_test", "b")] == [
        *("gap", "accuracy", "loss", "b")
    ]
    assert unit(OutcomeColumn.read("loss_a_test")) == "nats" and unit(OutcomeColumn.read("b")) == ""


def test_short_names_stand_for_columns_and_unknown_ones_are_told_with_the_nearest():
    known = [*columns_of("pgd10"), *columns_of("pgd10@L2:1/2"), "path_norm"]
    assert resolved("gap:pgd10@L2:1/2", known, "x") == "gap_pgd10@L2:1/2"
    assert resolved("test:pgd10", known, "x") == resolved("pgd10_test", known, "x") == "pgd10_test"
    assert resolved("train:pgd10", known, "x") == "pgd10_train" and resolved("path_norm", known, "x") == "path_norm"
    for name, nearest in (
        ("gap:pgd20", "gap_pgd10"),
        ("test:pgd10@L2:1/4", "pgd10@L2:1/2_test"),
        ("path", "path_norm"),
    ):
        wanted = f"x: found '{name}', wanted one of gap_pgd10, gap_pgd10@L2:1/2, or .*; the nearest is {nearest}$"
        with pytest.raises(ValueError, match=wanted):
            resolved(name, known, "x")
