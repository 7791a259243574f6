"""A study's results become its ledger whole: nothing planned is lost, and what is missing has a reason."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from result_files import FOREIGN

from robustgap.analysis.__main__ import main
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.ledger.collect import collect
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.words import FLAGS


def test_everything_planned_is_in_the_ledger(results):
    assert main(["ledger", "--results", str(results), "--out", str(results / "ledger")]) == 0
    ledger = Ledger.load(results / "ledger")
    runs = ledger.runs.set_index("model")
    assert len(runs) == 9
    assert runs["status"].to_dict() == {
        **dict.fromkeys(["r1-last", "r1-best", "r2-last", "r2-best"], "finished"),
        **dict.fromkeys(["r3-last", "r3-best"], "collapsed"),
        **dict.fromkeys(["r4-last", "r4-best", FOREIGN], "failed"),
    }
    assert runs.loc["r3-last", ["reason", "epochs"]].tolist() == ["loss is nan", "7"]
    assert "r4/run.json" in runs.loc["r4-last", "reason"]
    assert runs.loc[FOREIGN, ["reason", "seed", "awp", "norm", "eps"]].tolist() == [
        "refused: pickle",
        *["NA", "NA", "Linf", "3/20"],
    ]
    assert runs.loc["r2-last", "awp"] == "true" and ledger.axes == ["awp", "checkpoint"]
    assert ledger.values("awp")[:2] == ["false", "true"]
    assert ledger.columns == ["ce", "ce.adv", "rows"]
    assert ledger.study["excluded"][0]["count"] == 4 and "runs" not in ledger.study


def test_validation_accuracy_and_training_loss_come_from_the_epoch_of_each_checkpoint(results):
    rows = [f"{epoch},0.1,{1 / epoch},0.5,{epoch / 100}" for epoch in range(1, 31)]
    log = "\n".join(["epoch,lr,train_loss,val_clean,val_robust", *rows, ""])
    (results / "runs" / "r1" / "log.csv").write_text(log)
    record = json.loads((results / "runs" / "r1" / "run.json").read_text())
    (results / "runs" / "r1" / "run.json").write_text(json.dumps({**record, "best_epoch": 17}))
    table = collect(results, results / "ledger").models().set_index("model")
    assert table.loc[["r1-last", "r1-best"], "pgd10_val"].tolist() == [30, 17]
    assert table.loc[["r1-last", "r1-best"], "clean_val"].tolist() == [50, 50]
    assert table.loc[["r1-last", "r1-best"], "train_loss"].tolist() == [1 / 30, 1 / 17]
    assert table.loc["r2-last", ["pgd10_val", "clean_val", "train_loss"]].isna().all(), "no log was kept"
    assert "val_pgd10" not in table


@pytest.mark.parametrize("name", ["train_loss", "gap_clean"])
def test_a_measure_named_like_a_column_of_models_is_one_line(results, name):
    ledger = collect(results, results / "ledger")
    named = replace(ledger, measures=ledger.measures.replace({"measure": {"rows": name}}))
    with pytest.raises(ValueError, match=rf"measures\.parquet: found a measure '{name}', wanted a name that no other"):
        named.models()


def test_missing_values_keep_their_reasons(results):
    ledger = collect(results, results / "ledger")
    reasons = ledger.measures.set_index(["model", "measure", "variant"])["reason"]
    assert reasons["r2-last", "ce", "adversarial"] == "no images"
    assert reasons["r2-best", "ce", "clean"] == "no row in measures/ce/000.csv"
    assert reasons["r1-last", "rows", "none"] == "not finite: inf"
    assert ledger.measures.loc[ledger.measures["reason"] != "", "value"].isna().all()
    assert set(ledger.measures["model"]) == {"r1-last", "r1-best", "r2-last", "r2-best"}
    assert ledger.catalogue["rows"] == ledger.entry("rows") and ledger.expects("rows") is None
    assert (ledger.expects("ce"), ledger.expects("ce.adv")) == (-1, None)
    table = ledger.models().set_index("model")
    assert table.loc["r1-last", "ce"] == 1.5 and np.isnan(table.loc["r2-best", "ce"])


def test_gaps_and_their_standard_errors(results):
    table = collect(results, results / "ledger").models().set_index("model")
    row = table.loc["r1-last"]
    assert row["gap_pgd10"] == pytest.approx(40) and row["gap_pgd10_rest"] == pytest.approx(30)
    assert row["se_gap_pgd10"] == pytest.approx(100 * np.sqrt(0.9 * 0.1 / 100 + 0.5 * 0.5 / 100))
    assert row["pgd10_train"] == pytest.approx(90) and np.isnan(row["gap_fgsm"])
    assert table["flags"].to_dict()["r2-last"] == "robust_floor"
    assert Ledger.load(results / "ledger").models("train_rest")["gap_pgd10"].tolist() == pytest.approx([30] * 4)


def test_correctness_bits_are_kept_beside(results):
    collect(results, results / "ledger")
    bits = pd.read_parquet(results / "ledger" / "bits.parquet")
    assert set(bits["split"]) == {"train", "test"} and len(bits) == 16
    assert np.unpackbits(np.frombuffer(bits["bits"].iloc[0], np.uint8)).sum() in (50, 90)


def test_what_was_seen_of_a_flagged_model_reaches_its_reason_and_the_list_of_issues(results):
    seen = "the input gradient of 100% of images is 0"
    path = results / "outcomes" / "000.parquet"
    outcomes = pd.read_parquet(path)
    row = (outcomes["model"] == "r1-last") & (outcomes["split"] == "train") & (outcomes["attack"] == "pgd10")
    outcomes.loc[row, ["flags", "reason"]] = ["gradient_masking", seen]
    outcomes.to_parquet(path)
    ledger = collect(results, results / "ledger")
    assert ledger.runs.set_index("model").loc["r1-last", "reason"] == seen
    issues = Statistics(ledger).table("issues")
    (told,) = issues.loc[issues["issue"] == "gradient_masking", "reason"]
    assert told == f"{seen}: {FLAGS['gradient_masking'].reason}"
