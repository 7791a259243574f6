"""The submit, status and cancel scripts of the cluster profile, with stand-ins for the schedulers' commands that note
what they are asked and answer in the schedulers' own words. Slurm itself is tested for real in tests/slurm."""

import shutil
import subprocess
from pathlib import Path

import pytest
from trees import ROOT

PROFILE = ROOT / "workflow" / "profiles" / "cluster"
SUBMITTED = {  # command: (its answer, the id, what it must be asked for one core, 4,000 MB, 90 minutes)
    "sbatch": ("17", "17", ["--parsable", "--requeue", "--cpus-per-task=1", "--mem=4000", "--time=90"]),
    "bsub": ("Job <17> is submitted to default queue <normal>.", "17", ["-r", "-n 1", "-M 4000MB", "-W 90"]),
    "qsub": ("17.server", "17.server", ["-r y", "-l select=1:ncpus=1:mem=4000mb:ngpus={gpus}", "-l walltime=5400"]),
}
GPU = {"sbatch": "--gres=gpu:2", "bsub": "-gpu num=2", "qsub": "ngpus=2"}
NO_HISTORY = "qstat: PBS is not configured to maintain job history"  # to -x; the line after it: what it says without
STATES = [
    ("squeue", "RUNNING", "running"),
    ("squeue", "PENDING", "running"),
    ("squeue", "COMPLETED", "success"),
    ("squeue", "TIMEOUT", "failed"),
    ("squeue", "CANCELLED", "failed"),
    ("squeue", "OUT_OF_MEMORY", "failed"),
    ("squeue", "slurm_load_jobs error: Invalid job id specified", "failed"),
    ("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "running"),
    ("bjobs", "PEND", "running"),
    ("bjobs", "RUN", "running"),
    ("bjobs", "DONE", "success"),
    ("bjobs", "EXIT", "failed"),
    ("bjobs", "Job <17> is not found", "failed"),
    ("qstat", "Job Id: 17.server\n    job_state = R", "running"),
    ("qstat", "Job Id: 17.server\n    job_state = F\n    Exit_status = 0", "success"),
    ("qstat", "Job Id: 17.server\n    job_state = F\n    Exit_status = 271", "failed"),
    ("qstat", "qstat: Unknown Job Id 17.server", "failed"),
    ("qstat", f"{NO_HISTORY}\nqstat: Unknown Job Id 17.server", "failed"),
    ("qstat", f"{NO_HISTORY}\nJob Id: 17.server\n    job_state = R", "running"),
    ("qstat", f"{NO_HISTORY}\nqstat: cannot connect to server", "running"),
]
FORGOTTEN = ["Invalid job id", "is not found", "Unknown Job"]


def run(tmp_path: Path, command: str, answer: str, script: str, *arguments: str) -> tuple[str, str]:
    """(what the script prints, what the scheduler's command was asked) where only that command is found."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for tool in ("sh", "mkdir", "mv", "rm", "ls", "grep", "sed", "cat"):
        (bin_folder / tool).symlink_to(str(shutil.which(tool)))
    (tmp_path / "answer").write_text(f"{answer}\n")
    stand_in = bin_folder / command
    with_history = f"grep history {tmp_path}/answer || cat {tmp_path}/answer"
    answers = f'case "$*" in -x*) {with_history} ;; *) grep -v history {tmp_path}/answer ;; esac'
    stand_in.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/asked\n{answers}\n')
    stand_in.chmod(0o755)
    path = {"PATH": str(bin_folder)}
    ran = subprocess.run([str(PROFILE / script), *arguments], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip(), (tmp_path / "asked").read_text().strip()


@pytest.mark.parametrize("gpus", ["0", "2"])
@pytest.mark.parametrize("command", SUBMITTED)
def test_submit_asks_for_everything_and_prints_the_id_alone(command, gpus, tmp_path):
    answer, job, wanted = SUBMITTED[command]
    (tmp_path / "job.sh").write_text("exit 0")
    printed, asked = run(tmp_path, command, answer, "submit", "train", "1", "4000", "90", gpus, "job.sh")
    assert printed == job
    assert all(part.format(gpus=gpus) in asked for part in wanted), asked
    assert asked.endswith("job.sh") and "train" in asked and ".snakemake/cluster_logs" in asked
    assert (GPU[command] in asked) == (gpus == "2")


@pytest.mark.parametrize("command, answer, state", STATES)
def test_status_in_the_three_words_of_snakemake(command, answer, state, tmp_path):
    assert run(tmp_path, command, answer, "status", "17.server" if command == "qstat" else "17")[0] == state


@pytest.mark.parametrize("command, answer", [row[:2] for row in STATES if any(text in row[1] for text in FORGOTTEN)])
@pytest.mark.parametrize("ends", [0, 1])
def test_a_forgotten_job_is_judged_by_what_it_noted(ends, command, answer, tmp_path):
    """submit makes the job note that it ended well; the note is used up."""
    name = {"squeue": "sbatch", "bjobs": "bsub", "qstat": "qsub"}[command]
    said, job, _ = SUBMITTED[name]
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/sh\n# properties = {{}}\ncd / && test {ends} = 0 && exit 0 || exit 7")  # as Snakemake's
    run(tmp_path, name, said, "submit", "train", "1", "4000", "90", "0", str(script))
    shutil.rmtree(tmp_path / "bin")
    variable = {"squeue": "SLURM_JOB_ID", "bjobs": "LSB_JOBID", "qstat": "PBS_JOBID"}[command]
    ran = subprocess.run(["/bin/sh", str(script)], cwd="/", env={variable: job, "PATH": "/usr/bin:/bin"})
    assert ran.returncode == 7 * ends
    assert run(tmp_path, command, answer, "status", job)[0] == ("failed" if ends else "success")
    assert not list((tmp_path / ".snakemake/cluster_logs/ended-well").iterdir())


@pytest.mark.parametrize("command", ["scancel", "bkill", "qdel"])
def test_cancel_passes_all_jobs_on(command, tmp_path):
    assert run(tmp_path, command, "", "cancel", "17", "18")[1] == "17 18"


def test_submit_without_a_scheduler_says_so(tmp_path):
    (tmp_path / "job.sh").write_text("exit 0")
    for tool in ("sh", "mkdir", "cat", "mv"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    command = [str(PROFILE / "submit"), "train", "1", "4000", "90", "0", "job.sh"]
    ran = subprocess.run(command, cwd=tmp_path, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stderr.startswith("submit: found none of sbatch, bsub, qsub")
