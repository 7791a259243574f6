"""The benchmark of planning plans real studies. Its times are not looked at."""

import pytest

from benchmarks import dag

STUDY = dag.ROOT / "workflow" / "config" / "digits-tiny.yaml"


def test_a_finished_study_plans_nothing_and_a_new_measure_only_its_own_jobs(tmp_path, capsys):
    out = tmp_path / "dag.md"
    assert dag.main(["--study", str(STUDY), "--measures", "3", "--out", str(out)]) == 0
    assert capsys.readouterr().out == out.read_text() + "\n"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.read_text().splitlines() if "," in line]
    jobs = {row[0]: int(row[3]) for row in rows if len(row) == 4}
    fresh, many = jobs["fresh, one seed"], jobs["fresh, 5 seeds"]
    assert many > fresh > 10
    assert jobs["finished, one seed"] == 0
    # one job for each chunk, then catalogue, ledger, statistics, figures, report, and `all`
    assert 0 < jobs["finished, and one measure more"] < fresh


def test_a_study_that_cannot_be_planned_ends_the_benchmark(tmp_path):
    study = tmp_path / "broken.yaml"
    study.write_text(STUDY.read_text().replace("Linf", "L7"))
    with pytest.raises(RuntimeError, match="norm"):
        dag.snakemake(tmp_path, study, "--dry-run")
