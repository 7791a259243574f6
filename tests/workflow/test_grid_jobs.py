"""Jobs of a plan: what adding or changing something makes again, and what it leaves alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from studies import study
from trees import ROOT

from robustgap.workflow import jobs as jobs_module
from robustgap.workflow.grid import open_plan
from robustgap.workflow.jobs import Jobs, source_digest


def digests(plan: dict) -> dict[str, str]:
    """Every digest that a rule is given, by job."""
    jobs = Jobs(plan)
    train = {f"train {batch}": jobs.batch_digest(SimpleNamespace(batch=batch)) for batch in plan["batches"]}
    chunks = {f"chunk {chunk}": jobs.chunk_digest(SimpleNamespace(chunk=chunk)) for chunk in plan["chunks"]}
    return {**train, **chunks, "data": jobs.data_digest()}


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [0, 1, 2]},
        {"axes.batch_size": [32, 64, 128]},
        {"axes.awp": [False, True]},
        {"checkpoints": ["last"]},
        {"measures": ["average_ce", "prob_margin"]},
        {"analysis": {"draws": 500}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_adding_renames_no_run_and_touches_only_the_jobs_it_adds_to(changes: dict):
    old, new = open_plan(study(chunks=50), "small"), open_plan(study(chunks=50, **changes), "small")
    assert set(old["runs"]) <= set(new["runs"])
    assert all(old["runs"][run] == new["runs"][run] for run in old["runs"])
    added = set(new["runs"]) - set(old["runs"])
    touched = {new["runs"][run]["chunk"] for run in added}
    before, after = digests(old), digests(new)
    if changes.keys() == {"checkpoints"}:  # fewer models, the same trainings
        touched_jobs = {f"chunk {chunk}" for chunk in old["chunks"]}
    else:
        touched_jobs = {f"{kind} {chunk}" for chunk in touched for kind in ("train", "chunk")}
    assert {job for job in before if before[job] != after[job]} == touched_jobs & set(before)


def test_reordering_axes_or_values_changes_no_job():
    turned = study(**{"axes.defense": ["TRADES", "Standard", "AT"], "seeds": [1, 0]})
    turned["axes"] = dict(reversed(turned["axes"].items()))
    assert digests(open_plan(turned, "small")) == digests(open_plan(study(), "small"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eps", "1/10"),
        ("norm", "L2"),
        ("measure_images", 100),
        ("outcomes.test_images", 10),
    ],
)
def test_what_outcomes_depend_on_touches_every_chunk(key: str, value: object):
    before, after = digests(open_plan(study(), "small")), digests(open_plan(study(**{key: value}), "small"))
    assert not {(job, digest) for job, digest in before.items() if job.startswith("chunk")} & set(after.items())


def test_the_batch_size_of_evaluation_touches_nothing():
    assert digests(open_plan(study(**{"outcomes.batch_size": 7}), "s")) == digests(open_plan(study(), "s"))


def test_asking_for_the_extra_pool_makes_the_data_again():
    asked = study(**{"axes.extra_data": ["none", "pool"]})
    assert digests(open_plan(asked, "s"))["data"] != digests(open_plan(study(), "s"))["data"]


def test_one_job_per_run_when_asked():
    plan = open_plan(study(train_jobs="run"), "small")
    assert plan["batches"] == {run: [run] for run in sorted(plan["runs"])}
    chunk = plan["chunks"][0]
    wanted = sorted(f"<results>/runs/{run}.json" for run, entry in plan["runs"].items() if entry["chunk"] == chunk)
    assert sorted(Jobs(plan).manifests(SimpleNamespace(chunk=chunk))) == wanted


def test_digests_of_code_do_not_depend_on_the_locale():
    """Sources hold letters beyond ASCII; in a locale without UTF-8 they were read as others, or not at all."""
    code = (
        "from robustgap.workflow.study_faults import schema;"
        "from robustgap.workflow.jobs import code_id, json_digest, source_digest;"
        "print(source_digest('analysis'), source_digest('measures'), code_id('average_ce'), json_digest(schema()))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | given, capture_output=True, text=True, check=True
        ).stdout
        for given in ({"PYTHONUTF8": "1"}, {"PYTHONUTF8": "0", "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"})
    }
    assert len(told) == 1


def test_a_digest_covers_every_file_of_a_package_but_not_its_comments(tmp_path: Path, monkeypatch):
    left_out = shutil.ignore_patterns("published", "__pycache__")  # published: ledgers of studies, not code
    shutil.copytree(ROOT / "analysis", tmp_path / "analysis", ignore=left_out)
    monkeypatch.setattr(jobs_module, "ROOT", tmp_path)
    now = source_digest.__wrapped__  # without its cache
    before = now("analysis")
    files = [file for file in sorted((tmp_path / "analysis").rglob("*")) if file.is_file()]
    assert {file.suffix for file in files} == {".py", ".j2", ".css", ".js"}
    for file in [file for file in files if file.suffix != ".py"] + files[:1]:
        old = file.read_text(encoding="utf-8")
        file.write_text(f"{old}\nx = 1\n", encoding="utf-8")
        assert now("analysis") != before, file.name
        file.write_text(old, encoding="utf-8")
    python = tmp_path / "analysis" / "ranks" / "spearman.py"
    python.write_text(python.read_text(encoding="utf-8") + "\n# a comment\n", encoding="utf-8")
    assert now("analysis") == before
