"""digits-tiny through both cluster profiles on a real Slurm: what is asked for, who gets which GPU, what is left."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from slurm_cluster import Cluster
from trees import Tree

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(1800)]

RESULTS = "results/digits-tiny"
# The one line that the profiles' comments say to change where there are GPUs.
WITH_GPUS = {"slurm": ("""  # gres: "'gpu:1'\"""", """  gres: "'gpu:1'\""""), "cluster": ("  gpu: 0 #", "  gpu: 1 #")}
QUICK = {
    "slurm": ("--slurm-init-seconds-before-status-checks", "1"),
    "cluster": ("--seconds-between-status-checks", "1"),
}
NO_GPU = {"catalogue", "ledger", "analysis", "tables", "figures", "report"}
HERE = ("all", "data")  # run where Snakemake runs
CORES = {"figures": "2"}  # of the other rules 1
MEMORY = {"train": ("8000M",)}  # of the other rules 4,000 MB


@pytest.fixture(scope="module")
def studies(cluster: Cluster, tmp_path_factory) -> dict[str, Tree]:
    """A finished study by profile. They run side by side: most of their time is waiting."""
    trees = {}
    for profile in QUICK:
        trees[profile] = Tree.of_project(tmp_path_factory.mktemp(profile) / "project")
        trees[profile].slurm = True
        trees[profile].edit(f"workflow/profiles/{profile}/config.yaml", *WITH_GPUS[profile])
    with ThreadPoolExecutor() as threads:
        asked = {p: threads.submit(tree.run, "digits-tiny", *QUICK[p], profile=p) for p, tree in trees.items()}
    for profile, answer in asked.items():
        trees[profile].first = answer.result()
    return trees


@pytest.fixture(scope="module", params=list(QUICK))
def ran(request, studies: dict[str, Tree], cluster: Cluster) -> tuple[Tree, dict[str, dict[str, str]]]:
    """A finished study and what Slurm remembers of its jobs."""
    tree = studies[request.param]
    return tree, {job: fields for job, fields in cluster.jobs().items() if fields["WorkDir"] == str(tree.path)}


def rule_of(fields: dict[str, str]) -> str:
    """The rule of a job, from the name or the comment that its profile gives it."""
    said = fields["JobName"].removeprefix("robustgap-") if "robustgap-" in fields["JobName"] else fields["Comment"]
    return said.removeprefix("rule_").partition("_wildcards")[0]


def test_the_study_runs_to_its_report(ran):
    tree, jobs = ran
    assert tree.first.code == 0, tree.first.text
    assert (tree.path / RESULTS / "report.html").stat().st_size > 1000
    assert Counter(fields["JobState"] for fields in jobs.values()) == {
        "COMPLETED": sum(tree.first.jobs.values()) - len(HERE)
    }


def test_jobs_ask_for_memory_time_cores_and_their_requeue(ran):
    _, jobs = ran
    minutes = Counter(fields["TimeLimit"] for fields in jobs.values())
    assert minutes == {"1-00:00:00": 2, "08:00:00": 4, "01:00:00": len(jobs) - 6}  # trainings, outcomes, and of FGSM
    for fields in jobs.values():
        assert fields["MinMemoryNode"] in MEMORY.get(rule_of(fields), ("4000M", "4G")) and fields["Requeue"] == "1"
        assert fields["NumCPUs"] == CORES.get(rule_of(fields), "1"), rule_of(fields)


def test_gpus_are_asked_for_and_given_to_one_job_at_a_time(ran):
    tree, jobs = ran
    with_gpu = {rule_of(fields) for fields in jobs.values() if fields.get("TresPerNode") == "gres:gpu:1"}
    without = {rule_of(fields) for fields in jobs.values() if "TresPerNode" not in fields}
    assert without == NO_GPU and {"train", "outcomes", "compute_path_norm"} <= with_gpu
    logs = [log.read_text() for log in (tree.path / RESULTS / "logs" / "train").glob("*.log")]
    given = [re.findall(r"CUDA_VISIBLE_DEVICES (\S+)\n", text) for text in logs]
    assert all(len(set(found)) == 1 and found[0] in ("0", "1") for found in given)
    a, b = (fields for fields in jobs.values() if rule_of(fields) == "train")
    together = a["StartTime"] < b["EndTime"] and b["StartTime"] < a["EndTime"]
    assert together, "the trainings were not side by side"
    assert a["NodeList"] != b["NodeList"] or given[0][0] != given[1][0]


def test_jobs_leave_their_logs(ran):
    tree, _ = ran
    for log in (tree.path / RESULTS / "logs" / "train").glob("*.log"):
        text = log.read_text()
        assert "epoch 6/6" in text and "found no GPU" in text  # the fake one
    assert len(list((tree.path / RESULTS / "logs").rglob("*.log"))) == sum(tree.first.jobs.values()) - 1


def test_a_second_run_has_nothing_to_do(ran):
    tree, _ = ran
    profile = Path(tree.path).parent.name.rstrip("0123456789")
    again = tree.run("digits-tiny", profile=profile)
    assert again.code == 0 and "Nothing to be done" in again.text
