"""Outcomes have ids: old ledgers load as they did, new ones have columns for each id, and any of them can be asked."""

import json
import shutil

import numpy as np
import outcome_ledgers
import pandas as pd
import pytest
from outcome_ledgers import Given

from robustgap.analysis.commands import PUBLISHED
from robustgap.analysis.ledger import COLUMNS, KEYS, Ledger
from robustgap.analysis.models.shared_images import shared_image_noise
from robustgap.analysis.statistics import Statistics, StudyData
from robustgap.analysis.statistics._environments import effective_images
from robustgap.analysis.statistics.thresholds import compute as thresholds
from robustgap.analysis.statistics_folder import write_statistics

MANY = 64  # models of the usual design
OTHER = "pgd10@L2:1/2"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory) -> Ledger:
    """pgd10 and the same in L2, which one model lacks, with losses."""
    rng = np.random.default_rng(1)
    test, lift = rng.uniform(0.2, 0.6, MANY), rng.uniform(0.05, 0.3, MANY)
    lacking = np.arange(MANY) > 0
    given = [
        Given("pgd10", test + lift, test, loss=2 - test),
        Given(OTHER, test + lift / 2, test + 0.1, loss=1.8 - test, models=lacking, eps=0.5),
    ]
    return outcome_ledgers.make(tmp_path_factory.mktemp("outcomes") / "ledger", *given)


def test_a_ledger_made_before_outcomes_had_ids_loads(tmp_path):
    shutil.copytree(PUBLISHED / "digits", tmp_path / "digits")
    today = pd.read_parquet(PUBLISHED / "digits" / "outcomes.parquet")
    before = today.loc[today["outcome"] == today["attack"], COLUMNS["outcomes"]].reset_index(drop=True)
    before.to_parquet(tmp_path / "digits" / "outcomes.parquet")
    ledger = Ledger.load(tmp_path / "digits")
    assert (ledger.outcomes["outcome"] == before["attack"]).all() and ledger.outcome_ids == ["clean", "fgsm", "pgd10"]
    assert (ledger.outcomes[["target", "options", "signs"]] == "").all(axis=None)
    assert ledger.outcomes[["loss", "confidence_right", "success", "distortion"]].isna().all(axis=None)
    assert not ledger.has_losses and KEYS["outcomes"] == ["model", "split", "outcome"]
    table = ledger.models()
    p, n = table["pgd10_test"] / 100, before.loc[before["split"] == "test", "n"].iloc[0]
    np.testing.assert_allclose(table["se_pgd10_test"], 100 * np.sqrt(p * (1 - p) / n))
    errors = table["se_pgd10_train"] ** 2 + table["se_pgd10_test"] ** 2
    np.testing.assert_allclose(errors, table["se_gap_pgd10"] ** 2)


def test_each_id_has_its_columns_and_a_model_may_lack_one(ledger, tmp_path):
    table = ledger.models().set_index("model")
    rows = ledger.outcomes.set_index(["model", "split", "outcome"])
    assert ledger.outcome_ids == ["clean", "fgsm", "pgd10", OTHER]
    first, second = ledger.runs["model"][:2]
    own = [name for name in table if OTHER in name and "rest" not in name]
    assert len(own) == 8 and table.loc[first, own].isna().all() and table.loc[second, own].notna().all()
    train, test = (rows.loc[(second, split, OTHER)] for split in ("train", "test"))
    assert table.loc[second, f"gap_{OTHER}"] == pytest.approx(100 * (train["accuracy"] - test["accuracy"]))
    assert table.loc[second, f"loss_{OTHER}_test"] == test["loss"]
    assert table.loc[second, f"loss_{OTHER}_train"] == train["loss"]
    ledger.write(tmp_path)
    pd.testing.assert_frame_equal(Ledger.load(tmp_path).models(), ledger.models())


def test_two_rows_of_one_outcome_are_refused_and_of_two_outcomes_of_one_attack_are_not(ledger, tmp_path):
    shutil.copytree(ledger.path, tmp_path / "ledger")
    path = tmp_path / "ledger" / "outcomes.parquet"
    table = pd.read_parquet(path)
    assert table.duplicated(["model", "split", "attack"]).any()
    pd.concat([table, table.iloc[-1:]]).to_parquet(path)
    with pytest.raises(ValueError, match=r"outcomes\.parquet: found two rows for .* pgd10@L2:1/2, wanted one"):
        Ledger.load(tmp_path / "ledger")


def test_text_in_a_later_column_of_numbers_is_named(ledger, tmp_path):
    shutil.copytree(ledger.path, tmp_path / "ledger")
    path = tmp_path / "ledger" / "outcomes.parquet"
    table = pd.read_parquet(path)
    table.assign(loss=["good", *[""] * (len(table) - 1)]).to_parquet(path)
    with pytest.raises(ValueError, match=r"outcomes\.parquet, row 1: found 'good' in column 'loss', wanted a number"):
        Ledger.load(tmp_path / "ledger")


@pytest.mark.parametrize(
    ("asked", "column"),
    [
        (f"gap:{OTHER}", f"gap_{OTHER}"),
        ("train:pgd10", "pgd10_train"),
        (f"test:{OTHER}", f"{OTHER}_test"),
        ("gap_pgd10_rest", "gap_pgd10_rest"),
        ("loss_pgd10_test", "loss_pgd10_test"),
        ("average_ce.adv", "average_ce.adv"),
    ],
)
def test_a_study_may_ask_for_any_column(ledger, asked, column):
    one = outcome_ledgers.asked(ledger, asked)
    one.check()
    assert one.outcome == one.explained.column == column


def test_an_unknown_outcome_is_one_line_with_the_nearest(ledger, tmp_path):
    shutil.copytree(ledger.path, tmp_path / "ledger")
    path = tmp_path / "ledger" / "study.json"
    study = json.loads(path.read_text())
    study["study"]["analysis"]["outcome"] = "test:pgd10@L2:1/4"
    path.write_text(json.dumps(study))
    with pytest.raises(ValueError, match=r"outcome: found 'test:pgd10@L2:1/4'.*the nearest is pgd10@L2:1/2_test$"):
        Ledger.load(tmp_path / "ledger")


def test_images_and_their_noise_are_those_of_the_outcomes_splits(ledger):
    table = ledger.models()
    n = outcome_ledgers.SIZES
    for column, images in (
        ("gap_pgd10", 1 / (1 / n["train"] + 1 / n["test"])),
        ("pgd10_train", n["train"]),
        ("pgd10_test", n["test"]),
    ):
        np.testing.assert_allclose(effective_images(ledger, table["model"], column), images)
    bits = pd.read_parquet(ledger.path / "bits.parquet")
    for column in ("pgd10_test", f"{OTHER}_train"):
        outcome, split = ledger.explain(column).outcome, column.rpartition("_")[2]
        own = bits[(bits["outcome"] == outcome) & (bits["split"] == split)].set_index("model")
        models = table.loc[table[column].notna(), "model"]
        right = np.stack([np.unpackbits(np.frombuffer(own.loc[m, "bits"], np.uint8))[: n[split]] for m in models])
        errors = right - right.mean(axis=1, keepdims=True)
        errors = errors / np.linalg.norm(errors, axis=1, keepdims=True)
        configuration = table.loc[table[column].notna(), ledger.axes[:-1]].agg("|".join, axis=1).to_numpy()
        apart = configuration[:, None] != configuration
        found = shared_image_noise(ledger, table, column)
        assert found.everywhere == pytest.approx((errors @ errors.T)[apart].mean())
    assert shared_image_noise(ledger, table, "loss_pgd10_test") is None


NAMED = ["gap_pgd10", "pgd10_train", "clean_train", "pgd10_test", "loss_pgd10_train", "average_ce.adv", "average_ce"]


@pytest.mark.parametrize("column", NAMED)
def test_an_outcome_is_never_used_to_explain_itself(ledger, column):
    data = StudyData.of_ledger(outcome_ledgers.asked(ledger, column))
    beside = [data.beside.table[name] for name, kind in data.beside.kinds.items() if kind == "baseline"]
    used = [*data.state, *data.given, *data.measures, data.validation]
    assert data.outcome == column and column not in used and data.state and data.given
    assert not any(np.array_equal(one, data.models[column], equal_nan=True) for one in beside)
    assert not any(np.array_equal(data.models[name], data.models[column]) for name in [*data.state, *data.given])
    conditioned = thresholds(data)["column"].unique()
    assert len(conditioned) and column not in conditioned and f"{column}_error" not in conditioned
    assert (data.se is None) == (column in ("loss_pgd10_train", "average_ce.adv", "average_ce"))
    assert any(data.signs.values()) == (column == "gap_pgd10"), "signs are claimed for the gap alone"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Ledger:
    """The same with 8 models of 4 configurations."""
    rng = np.random.default_rng(1)
    test, lift = rng.uniform(0.2, 0.6, 8), rng.uniform(0.05, 0.3, 8)
    given = [
        Given("pgd10", test + lift, test, loss=2 - test),
        Given(OTHER, test + lift / 2, test + 0.1, models=np.arange(8) > 0, eps=0.5),
    ]
    axes = {"defense": ["AT", "TRADES"], "batch_size": [32, 128]}
    path = tmp_path_factory.mktemp("small") / "ledger"
    return outcome_ledgers.make(path, *given, axes=axes, checkpoints=("last",))


@pytest.mark.parametrize("asked", [f"gap:{OTHER}", "loss_pgd10_test", "average_ce"])
def test_statistics_of_any_outcome_say_what_they_are_about(small, asked, tmp_path):
    one = outcome_ledgers.asked(small, asked, draws=20, slow_draws=10)
    statistics = Statistics(one)
    write_statistics(statistics, tmp_path)
    told = json.loads((tmp_path / "findings.json").read_text())["sentences"]
    wanted = {
        f"gap:{OTHER}": "The PGD-10 at L2 1/2 generalization gap runs from",
        "loss_pgd10_test": "The PGD-10 loss on test images runs from",
        "average_ce": "The average_ce runs from",
    }[asked]
    assert any(sentence.startswith(wanted) for sentence in told)
    lacking = "It is not known for 1 model, left out of all that is said about it."
    assert (lacking in told) == (OTHER in asked)
    assert ("points" in " ".join(told)) == asked.startswith("gap:")
    taus = statistics.table("correlations").query("statistic == 'tau'").set_index("measure")["n"]
    assert taus["average_ce.adv"] == 8 - (OTHER in asked)
