"""A study's results become its ledger whole: nothing planned is lost, and every damaged file is named."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.collect import collect
from analysis.ledger import Ledger

COLUMNS = "model,measure,variant,value,se,n_images,split,seed,seconds,forwards,code_id,reason"
HEADER = next(csv.reader([COLUMNS]))
FOREIGN = "rb-cifar10-Linf-Someone2020"
ACCURACY = {"train": 0.9, "train_rest": 0.8, "test": 0.5}


def outcome_rows(model: str) -> list[dict]:
    rows = []
    for split, accuracy in ACCURACY.items():
        for attack in ("clean", "pgd10"):
            flag = "robust_floor" if (model, split, attack) == ("r2-last", "test", "pgd10") else ""
            row = {"model": model, "split": split, "attack": attack, "eps": 0.15, "norm": "Linf", "n": 100, "se": 0.04}
            bits = b"" if split == "train_rest" else bytes(np.packbits(np.arange(100) < 100 * accuracy))
            rows.append({**row, "accuracy": accuracy, "flags": flag, "bits": bits, "index_sha": "0", "reason": ""})
    return rows


def write_measure(results: Path, name: str, chunk: str, rows: list[list]) -> Path:
    path = results / "measures" / name / f"{chunk}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return path


def measured(model: str, measure: str, variant: str, value: object, reason: str = "") -> list:
    return [model, measure, variant, value, 0.1, 256, "measure", 0, 0.5, 12, "abc", reason]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Four runs x two checkpoints in two chunks: r1 fine, r2 fine, r3 collapsed, r4 never finished; one foreign model
    that did not load. `ce` is a catalogued measure; `rows`, made by hand, is not."""
    results, settings = tmp_path / "S", {"defense": "AT", "norm": "Linf", "eps": "3/20", "epochs": 30}
    settings["seed"] = 0
    runs = {
        f"r{number}": {"settings": {**settings, "awp": number % 2 == 0}, "chunk": f"00{number // 3}", "batch": "0a"}
        for number in (1, 2, 3, 4)
    }
    models: dict[str, dict] = {
        f"{run}-{checkpoint}": {"source": "grid", "run": run, "checkpoint": checkpoint, "chunk": entry["chunk"]}
        for run, entry in runs.items()
        for checkpoint in ("last", "best")
    }
    models[FOREIGN] = {"source": "robustbench", "name": "x", "dataset": "cifar10", "threat": "Linf", "chunk": "001"}
    study = {"study": "S", "eps": "3/20", "axes": {"awp": [False, True]}, "checkpoints": ["last", "best"]}
    study |= {"measures": ["ce", "rows"]}
    plan = {"study": study, "axes": ["awp"], "code": {"training": 1, "outcomes": 1}, "runs": runs, "models": models}
    plan |= {"chunks": ["000", "001"], "batches": {}, "excluded": [{"where": {}, "reason": "why", "count": 4}]}
    results.mkdir()
    (results / "plan.json").write_text(json.dumps(plan))
    entry = {"family": "loss", "variants": ["clean", "adversarial"], "expects": {"clean": -1}}
    (results / "catalogue.json").write_text(json.dumps({"ce": entry, "other": entry}))
    for run in ("r1", "r2", "r3"):
        record = {"run": run, "status": "finished", "reason": "", "flags": [], "epochs": 30, "seconds": 2.5}
        if run == "r3":
            record |= {"status": "collapsed", "reason": "loss is nan", "epochs": 7}
        folder = results / "runs" / run
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({**record, "device": "cpu"}))
    (results / "outcomes").mkdir()
    judged = pd.DataFrame(
        [row for model in ("r1-last", "r1-best", "r2-last", "r2-best") for row in outcome_rows(model)]
    )
    judged.to_parquet(results / "outcomes" / "000.parquet")
    lost = {**outcome_rows(FOREIGN)[0], "split": "", "attack": "", "n": 0, "accuracy": None, "bits": b""}
    pd.DataFrame([{**lost, "reason": "refused: pickle"}]).to_parquet(results / "outcomes" / "001.parquet")
    rows = [measured(model, "ce", "clean", 1.5) for model in ("r1-last", "r1-best", "r2-last")]
    write_measure(results, "ce", "000", [*rows, measured("r2-last", "ce", "adversarial", "", "no images")])
    write_measure(results, "ce", "001", [])
    write_measure(results, "rows", "000", [measured(model, "rows", "none", "inf") for model in ("r1-last", "r1-best")])
    return results


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


def test_validation_accuracy_comes_from_the_epoch_of_each_checkpoint(results):
    log = "epoch,lr,val_clean,val_robust\n" + "".join(f"{epoch},0.1,0.5,{epoch / 100}\n" for epoch in range(1, 31))
    (results / "runs" / "r1" / "log.csv").write_text(log)
    record = json.loads((results / "runs" / "r1" / "run.json").read_text())
    (results / "runs" / "r1" / "run.json").write_text(json.dumps({**record, "best_epoch": 17}))
    table = collect(results, results / "ledger").models().set_index("model")
    assert table.loc[["r1-last", "r1-best"], "pgd10_val"].tolist() == [30, 17]
    assert table.loc[["r1-last", "r1-best"], "clean_val"].tolist() == [50, 50]
    assert table.loc["r2-last", ["pgd10_val", "clean_val"]].isna().all(), "no log was kept"
    assert "val_pgd10" not in table


WHOLE = "epoch,val_clean,val_robust\n"


@pytest.mark.parametrize(
    "log", ["epoch,val_clean\n30,0.5\n", WHOLE + "1,0.5,0.4\n", WHOLE + "30,0.5,a\n", "", "a\n\x00"]
)
def test_a_training_log_that_is_not_whole_is_named(results, log):
    (results / "runs" / "r1" / "log.csv").write_text(log)
    with pytest.raises(ValueError, match=r"r1/log\.csv: found no val_clean, val_robust of epoch 30"):
        collect(results, results / "ledger")


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


def spoil_csv(results: Path, column: str, value: str) -> None:
    row = measured("r1-last", "rows", "none", 2.0)
    row[HEADER.index(column)] = value
    write_measure(results, "rows", "000", [row])


FAULTS = {
    "text for a value": (lambda r: spoil_csv(r, "value", "big"), "rows/000.csv, line 2, column value: found 'big'"),
    "text for seconds": (lambda r: spoil_csv(r, "seconds", "2 s"), "column seconds: found '2 s', wanted a number"),
    "unknown model": (lambda r: spoil_csv(r, "model", "r9-last"), "column model: found 'r9-last'"),
    "wrong measure": (lambda r: spoil_csv(r, "measure", "ce"), "column measure: found 'ce', wanted 'rows'"),
    "unknown variant": (lambda r: spoil_csv(r, "variant", "both"), "column variant: found 'both', wanted one of"),
    "two rows": (
        lambda r: write_measure(r, "rows", "000", [measured("r1-last", "rows", "none", 1)] * 2),
        "line 3: found a second row for model r1-last",
    ),
    "short row": (lambda r: write_measure(r, "rows", "000", [["r1-last", "rows"]]), "found 2 cells, wanted 12"),
    "wrong header": (
        lambda r: (r / "measures/rows/000.csv").write_text("model,value\nr1-last,2\n"),
        "rows/000.csv: found columns model,value; wanted model,measure,variant",
    ),
    "empty file": (lambda r: (r / "measures/rows/000.csv").write_text(""), "found columns an empty file"),
    "truncated parquet": (
        lambda r: (r / "outcomes/000.parquet").write_bytes((r / "outcomes/000.parquet").read_bytes()[:200]),
        "outcomes/000.parquet: found no readable parquet",
    ),
    "outcomes without a column": (
        lambda r: pd.read_parquet(r / "outcomes/000.parquet").drop(columns="n").to_parquet(r / "outcomes/000.parquet"),
        "outcomes/000.parquet: wanted column n; found columns: model, split",
    ),
    "outcomes twice": (
        lambda r: pd.DataFrame(outcome_rows("r1-last") * 2).to_parquet(r / "outcomes/000.parquet"),
        "outcomes/000.parquet: found two rows for r1-last train clean",
    ),
    "outcomes of another chunk": (
        lambda r: pd.DataFrame(outcome_rows("r4-last")).to_parquet(r / "outcomes/000.parquet"),
        "outcomes/000.parquet: found model r4-last, which the plan does not list in this chunk",
    ),
    "truncated run.json": (lambda r: (r / "runs/r1/run.json").write_text('{"run": '), "runs/r1/run.json: found no"),
    "another run's record": (
        lambda r: (r / "runs/r1/run.json").write_text((r / "runs/r2/run.json").read_text()),
        "runs/r1/run.json: found the record of run r2, wanted r1",
    ),
    "no plan": (lambda r: (r / "plan.json").unlink(), "plan.json: no such file"),
    "no catalogue": (lambda r: (r / "catalogue.json").unlink(), "catalogue.json: no such file"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_damaged_file_is_named_in_one_line_and_nothing_is_written(results, capsys, name):
    spoil, message = FAULTS[name]
    spoil(results)
    assert main(["ledger", "--results", str(results), "--out", str(results / "ledger")]) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (results / "ledger").exists()


@pytest.mark.parametrize("file, content", [("run.json", b"\xff"), ("log.csv", b"epoch,va")])
def test_a_run_with_a_damaged_file_is_trained_again(file, content, results, capsys):
    """The manifest of its batch goes, and the outcomes of its chunk, which would hide that from Snakemake."""
    (results / "runs" / "r1" / file).write_bytes(content)
    (results / "runs" / "0a.json").write_text("{}")
    assert main(["ledger", "--results", str(results), "--out", str(results / "ledger")]) == 1
    error = capsys.readouterr().err
    assert f"{results}/runs/r1/{file}: " in error and error.endswith(": run again, and it is trained anew\n")
    assert not (results / "runs" / "0a.json").exists() and not (results / "outcomes" / "000.parquet").exists()
    assert (results / "outcomes" / "001.parquet").exists()


@pytest.mark.parametrize(
    "file", ["runs.parquet", "outcomes.parquet", "measures.parquet", "study.json", "catalogue.json"]
)
def test_a_damaged_ledger_is_named(results, file):
    folder = results / "ledger"
    collect(results, folder)
    (folder / file).write_bytes((folder / file).read_bytes()[:50])
    with pytest.raises(ValueError, match=file):
        Ledger.load(folder)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        Ledger.load(folder)


def test_a_ledger_that_contradicts_itself_is_refused(results):
    folder = results / "ledger"
    collect(results, folder)
    outcomes, runs = pd.read_parquet(folder / "outcomes.parquet"), pd.read_parquet(folder / "runs.parquet")
    pd.concat([outcomes, outcomes.iloc[:1]]).to_parquet(folder / "outcomes.parquet")
    with pytest.raises(ValueError, match=r"outcomes\.parquet: found two rows for r1-best test clean"):
        Ledger.load(folder)
    outcomes.assign(model="r9-last").drop_duplicates(["split", "attack"]).to_parquet(folder / "outcomes.parquet")
    with pytest.raises(ValueError, match=r"outcomes\.parquet: found model r9-last"):
        Ledger.load(folder)
    runs.drop(columns="awp").to_parquet(folder / "runs.parquet")
    with pytest.raises(ValueError, match=r"runs\.parquet: wanted column awp"):
        Ledger.load(folder)
