"""The benchmark of planning plans real studies. Its times are not looked at."""

import pytest

from benchmarks import dag
from robustgap.workflow.grid import open_plan
from robustgap.workflow.study import read_study

STUDY = dag.ROOT / "workflow" / "config" / "digits-tiny.yaml"


def test_a_finished_study_plans_nothing_and_a_new_measure_only_its_own_jobs(tmp_path, capsys):
    out = tmp_path / "dag.md"
    assert dag.main(["--study", str(STUDY), "--measures", "3", "--out", str(out)]) == 0
    assert capsys.readouterr().out == out.read_text() + "\n"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.read_text().splitlines() if "," in line]
    jobs = {row[0]: int(row[3]) for row in rows if len(row) == 5 and row[3].isdigit()}
    fresh, many = jobs["fresh, one seed"], jobs["fresh, 5 seeds"]
    assert many > fresh > 10
    assert jobs["finished, one seed"] == 0
    chunks = len(open_plan(read_study(STUDY), "tiny")["chunks"])
    # one job for each chunk, then ledger, analysis, tables, figures, report, and `all`
    assert jobs["finished, and one measure more"] == chunks + 6
    assert "missed" in dag.verdict(dag.Planned("fresh, one seed", 31, 100, 1))
    assert "missed" in dag.verdict(dag.Planned("fresh, 5 seeds", 100, 501, 1))
    assert "missed" not in dag.verdict(dag.Planned("fresh, 5 seeds", 100, 499, 1))


def test_a_study_that_cannot_be_planned_ends_the_benchmark(tmp_path):
    study = tmp_path / "broken.yaml"
    study.write_text(STUDY.read_text().replace("Linf", "L7"))
    with pytest.raises(RuntimeError, match="norm"):
        dag.snakemake(tmp_path, study, "--dry-run")
