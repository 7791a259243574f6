"""`python -m robustgap.training data | train | outcomes`: the jobs of the first three stages of the workflow."""

import argparse
import signal
import sys
from pathlib import Path

import torch

from robustgap.training.checkpoint import read_json, write_json
from robustgap.training.data.extra_sets import extra_file
from robustgap.training.data.fetch import fetch
from robustgap.training.facts import DATA_SET_FACTS
from robustgap.training.jobs import outcomes
from robustgap.training.jobs.lock import take_turns
from robustgap.training.jobs.plan import data_dir, splits_of
from robustgap.training.jobs.processes import Job, make_trainer, train_in_parallel
from robustgap.training.jobs.provenance import study_device
from robustgap.training.jobs.pseudo_labels import extra_images, pseudo_label, save_extra
from robustgap.training.paths import given_path
from robustgap.training.settings import Plan, Record


def prepare_data(plan: Plan, out: Path, device: torch.device) -> None:
    """Fetch the files that the study's runs need, read them once, and record the splits; pseudo-label the extra pool
    if a run uses it. No other job downloads anything: cluster nodes have no network."""
    study, extra_data = plan["study"], {run["settings"]["extra_data"] for run in plan["runs"].values()}
    sha256 = study.get("extra_sha256", {})
    published = sorted(extra_data - {"none", "pool"})
    files = [*DATA_SET_FACTS[study["data"]].files]
    files += [extra_file(name, study["data"], sha256.get(name, "")) for name in published]
    for file in files:
        fetch(data_dir(study), file, study.get("mirrors", ()), study.get("offline", False))
    splits = splits_of(study)
    if "pool" in extra_data:
        save_extra(out.parent / "extra.safetensors", pseudo_label(splits, device))
    for name in published:
        extra = extra_images(name, splits, study, out.parents[1])
        print(f"{name}: {len(extra or ())} extra images", file=sys.stderr)
    write_json(out, splits.record())


def train_batch(plan: Plan, batch: str, results: Path, out: Path, device: torch.device, processes: int = 1) -> None:
    """Train the runs of one job, `processes` at a time, runs that another job is training last, and write the manifest:
    status, reason and files of each run. Raises LookupError for an unknown batch."""
    if batch not in plan["batches"]:
        raise LookupError(f"batch {batch!r} is not in the plan of study {plan['study']['study']}")
    settings = {run: plan["runs"][run]["settings"] for run in plan["batches"][batch]}
    job, manifest = Job(plan["study"], settings, results, device), dict[str, Record]()
    if min(processes, len(settings)) > 1:
        train_in_parallel(job, min(processes, len(settings)), manifest.__setitem__)
    else:
        take_turns(settings, make_trainer(job, manifest.__setitem__))
    write_json(out, {"batch": batch, "runs": {run: manifest[run] for run in settings}})


def at_least_one(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted an integer >= 1")
    return int(text)


def end_on_sigterm() -> None:
    """Shut down cleanly on SIGTERM, which schedulers send before they kill a job (cancelled, out of time, preempted):
    release the lock, remove half-written files, and print one line."""

    def end(number: int, frame: object) -> None:
        print("ended by SIGTERM: when started again, it resumes after its last epoch", file=sys.stderr, flush=True)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m robustgap.training", description=__doc__)
    parser.add_argument("stage", choices=["data", "train", "outcomes"])
    parser.add_argument("--plan", type=given_path, required=True, help="plan.json of the study")
    parser.add_argument("--batch", help="train: the job of the plan")
    parser.add_argument("--chunk", help="outcomes: the chunk of models")
    parser.add_argument("--outcome", default="", help="outcomes: the group of outcomes; default: clean and PGD-10")
    parser.add_argument("--results", type=given_path, help="folder of the study")
    parser.add_argument("--out", type=given_path, required=True)
    parser.add_argument("--processes", type=at_least_one, default=1, help="train: how many runs at a time; default: 1")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ...; default: a GPU if there is one")
    options = parser.parse_args(arguments)
    try:
        plan = read_json(options.plan)
        device = study_device(plan["study"], options.device)
        results = options.results or options.plan.parent
        if options.stage == "data":
            prepare_data(plan, options.out, device)
        elif options.stage == "train":
            train_batch(plan, options.batch, results, options.out, device, options.processes)
        else:
            outcomes.evaluate_chunk(plan, options.chunk, results, options.out, device, options.outcome)
    except (ValueError, LookupError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main())
