"""A ledger is extended by a study that trains the same models again, weight for weight, or not at all."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from result_files import measured, write_measure
from studies import study

from robustgap.analysis.__main__ import main
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.ledger.collect import collect
from robustgap.workflow.grid import open_plan

HERE = {"cpu": "Xeon", "device": "x86_64", "instructions": "AVX512", "reproducible": False}
HERE |= {"packages": {"torch": "2.13.0"}, "commit": ""}
THERE = {**HERE, "cpu": "Epyc", "instructions": "AVX2"}


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def change_study(results, **values):
    plan = json.loads((results / "plan.json").read_text())
    change(results / "plan.json", study={**plan["study"], **values})


def digests(results, made_by, **changed):
    """Say what trained each run, and digests of its weights, some of them changed."""
    for run in ("r1", "r2", "r3"):
        weights = {name: changed.get(f"{run}_{name}", f"{run}{name}" * 8) for name in ("last", "best")}
        change(results / "runs" / run / "run.json", made_by=[made_by], weights_sha256=weights)


@pytest.fixture
def earlier(results):
    """A ledger with the measures `ce` and `rows` of four models, and the results to make it again."""
    digests(results, THERE)
    collect(results, results / "ledger")
    return results / "ledger"


@pytest.fixture
def later(results, earlier, tmp_path):
    """The same models trained again, with a measure more and an attack instead of another."""
    again = tmp_path / "again"
    shutil.copytree(results, again)
    shutil.rmtree(again / "ledger")
    shutil.rmtree(again / "measures")
    change_study(again, measures=["new", "ce"], extends=str(earlier))
    models = ["r1-last", "r1-best", "r2-last", "r2-best"]
    write_measure(again, "new", "000", [measured(model, "new", "none", 7) for model in models])
    write_measure(again, "ce", "000", [measured(model, "ce", "clean", 2.5) for model in models])
    for name in ("new", "ce"):
        write_measure(again, name, "001", [])
    table = pd.read_parquet(again / "outcomes" / "000.parquet")
    renamed = {name: table[name].replace("clean", "fgsm") for name in ("attack", "outcome")}
    table.assign(**renamed).to_parquet(again / "outcomes" / "000.parquet")
    digests(again, HERE)
    return again


def test_equal_weights_take_over_what_the_ledger_has_more(earlier, later):
    assert main(["ledger", "--results", str(later), "--out", str(later / "ledger")]) == 0
    before, ledger = Ledger.load(earlier), Ledger.load(later / "ledger")
    table, old = (one.models().set_index("model") for one in (ledger, before))
    assert (table["new"] == 7).all()
    assert (table["ce"] == 2.5).all(), "what both have is the study's own"
    pd.testing.assert_series_equal(table["rows"], old["rows"])
    assert {"gap_clean", "gap_fgsm", "gap_pgd10"} <= set(table.dropna(axis=1).columns)
    assert list(ledger.catalogue) == ledger.study["study"]["measures"] == ["ce", "rows", "new"]
    assert ledger.study["extends"] == {"ledger": str(earlier), "created": before.study["created"]}
    bits = pd.read_parquet(later / "ledger" / "bits.parquet")
    assert set(bits["attack"]) == {"clean", "fgsm", "pgd10"} and len(bits) == 24
    assert not bits.duplicated(["model", "split", "attack"]).any()
    assert np.isclose(len(ledger.outcomes), 1.5 * len(before.outcomes))


def test_other_weights_are_refused_in_one_line_and_nothing_is_written(earlier, later, capsys):
    digests(later, HERE, r1_best="f" * 64, r2_last="e" * 64)
    assert main(["ledger", "--results", str(later), "--out", str(later / "ledger")]) == 1
    assert capsys.readouterr().err == (
        f"error: {earlier / 'runs.parquet'}: weights of r1-best and 1 other models of 9:"
        " found ffffffffffff (finished; AVX512, Xeon, x86_64, torch 2.13.0),"
        " wanted r1bestr1best (finished; AVX2, Epyc, x86_64, torch 2.13.0);"
        " they are not the same models, and nothing is added\n"
    )
    assert not (later / "ledger").exists()


def test_weights_without_digest_are_not_known_to_be_the_same(earlier, later):
    for results in (later, earlier.parent):
        for run in ("r1", "r2", "r3"):
            change(results / "runs" / run / "run.json", weights_sha256={})
    collect(earlier.parent, earlier)
    with pytest.raises(ValueError, match=r"weights of r1-last and 3 other models .* no digest"):
        collect(later, later / "ledger")


def test_a_ledger_of_an_earlier_version_loads_and_cannot_be_extended(earlier, later):
    old = pd.read_parquet(earlier / "runs.parquet").drop(columns=["arithmetic", "weights_sha256"])
    old.to_parquet(earlier / "runs.parquet")
    assert len(Ledger.load(earlier).models()) == 4
    with pytest.raises(ValueError, match=r"runs.parquet: wanted column arithmetic, weights_sha256; found columns"):
        collect(later, later / "ledger")


@pytest.mark.parametrize(
    "given, told",
    [
        ({"eps": "1/10"}, "eps: found 1/10 in the study, wanted 3/20"),
        ({"measure_images": 8}, "measure_images: found 8 in the study, wanted None"),
        ({"outcomes": {"train_images": 5}}, "outcomes.train_images: found 5 in the study, wanted None"),
    ],
)
def test_other_images_or_another_threat_are_refused(later, given, told):
    change_study(later, **given)
    with pytest.raises(ValueError, match=told):
        collect(later, later / "ledger")


def test_models_of_one_side_alone_are_refused(later):
    plan = json.loads((later / "plan.json").read_text())
    models = {name: entry for name, entry in plan["models"].items() if name != "r4-best"}
    change(later / "plan.json", models=models)
    with pytest.raises(ValueError, match=r"found 1 models in one of study and ledger \(r4-best\), wanted all of the"):
        collect(later, later / "ledger")


def test_a_study_extends_another(tmp_path):
    assert open_plan(study(extends="other"), "x.yaml")["study"]["extends"] == "other"
    with pytest.raises(
        ValueError, match=r"^x.yaml: extends: found the study's own name, small, wanted another, or the"
    ):
        open_plan(study(extends="small"), "x.yaml")
