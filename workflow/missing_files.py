"""Lists the files a study needs that no job can download. Imports no torch."""

from pathlib import Path

from robustgap.training.facts import EXTRA_SET_FACTS
from robustgap.training.settings import Entry, Plan, StudyFile


def summary_lines(plan: Plan) -> list[tuple[str, str]]:
    """Lines (title, text) of the plan's summary, one per missing file or checksum."""
    study = plan["study"]
    used_sets = {run["settings"]["extra_data"] for run in plan["runs"].values()}
    lines = []
    for name in sorted(used_sets & set(EXTRA_SET_FACTS)):
        extra_file = EXTRA_SET_FACTS[name].files[study["data"]]
        if extra_file.urls:
            continue
        file = Path(study["data_dir"], extra_file.path)
        if not file.is_file() and not study["mirrors"]:
            lines.append(f"{file}: extra images {name} have no address: get the file, and put it there")
        if name not in study["extra_sha256"]:
            lines.append(f"extra_sha256.{name}: missing: name the SHA-256 of your file, a pickle is not opened without")
    checkpoints = [checkpoint(entry, study) for entry in plan["models"].values() if entry["source"] != "grid"]
    # an ensemble has one file per member
    if missing := [str(file) for file in checkpoints if not (file.exists() or Path(f"{file}_m0.pt").exists())]:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        lines.append(f"{len(missing)} of {len(checkpoints)} checkpoints are not there: {missing[0]}{more}")
    return [("by hand", line) for line in lines]


def checkpoint(entry: Entry, study: StudyFile) -> Path:
    """Path to the weights of a model trained elsewhere."""
    if entry["source"] == "file":
        return Path(entry["file"])
    return Path(study["model_dir"], entry["dataset"], entry["threat"], f"{entry['name']}.pt")
