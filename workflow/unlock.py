"""Snakemake's lock on a study, released when the Snakemake that held it is gone: killed, or cut off with its terminal.

python -m robustgap.workflow.unlock STUDY|FILE

Snakemake locks what it is about to write by lists in .snakemake/locks, and removes them when it ends; after SIGKILL or
SIGHUP they stay. Beside them stands, from the first job on, a record of who made them. A lock is released only where
its record says so and that process is known to be gone; one without a record, or of another machine, is left to whoever
knows better (`snakemake --unlock`).
"""

import argparse
import fcntl
import hashlib
import json
import os
import platform
import sys
from pathlib import Path

from robustgap.training.jobs.lock import Owner, describe, machine, own_content, read_content, surely_dead
from robustgap.workflow.study import read_study, resolve, study_file
from robustgap.workflow.study_faults import StudyError

LOCKS = Path(".snakemake/locks")
MACHINE_ID = Path("/etc/machine-id")


def system() -> str:
    """Identifies this installation of a system across boots; '' if not available."""
    try:
        return hashlib.sha256(MACHINE_ID.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def locks_of(study: str) -> dict[str, int]:
    """{file: modification time} of the locks on a study's results."""
    locks = {}
    for file in sorted(LOCKS.glob("*.lock")):
        paths = file.read_text(encoding="utf-8", errors="replace").splitlines()
        if any(line.startswith(f"results/{study}/") for line in paths):
            locks[file.name] = file.stat().st_mtime_ns
    return locks


def record_owner(study: str) -> None:
    """Record next to the existing locks that this process made them: both are removed together."""
    owner = json.loads(own_content()) | {"system": system(), "locks": locks_of(study)}
    LOCKS.mkdir(parents=True, exist_ok=True)
    (LOCKS / f"owner.{os.getpid()}").write_text(json.dumps(owner) + "\n", encoding="utf-8")


def rebooted(owner: Owner) -> bool:
    """Whether the owner ran on this machine before its last boot."""
    here = {"host": platform.node(), "system": system()}
    before, now = (text.partition(" ")[0] for text in (str(owner.get("machine", "")), machine()))  # boot ids
    same = here["system"] != "" and all(owner.get(key) == here[key] for key in here)
    return bool(same and before and now and before != now)


def gone(owner: Owner) -> bool:
    return surely_dead(owner) or rebooted(owner)


def release(study: str) -> list[str]:
    """Remove the locks on a study if all their owners are gone; returns messages about it. Raises StudyError, and
    removes none, if one of them may still be running."""
    if not locks_of(study):
        return []
    with (LOCKS.parent / "release").open("w", encoding="utf-8") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # otherwise another process could remove a lock made since it checked
        locks = locks_of(study)
        owners = {file: read_content(file.read_bytes()) for file in sorted(LOCKS.glob("owner.*"))}
        made_by_owner = {file: locks.items() & owner.get("locks", {}).items() for file, owner in owners.items()}
        owners = {file: owner for file, owner in owners.items() if made_by_owner[file]}
        unknown = locks.items() - set().union(*made_by_owner.values())
        by_hand = f"if it does not run any more: snakemake --unlock (in {Path.cwd()})"
        for owner in owners.values():
            if not gone(owner):
                raise StudyError(f"results/{study}: locked by a Snakemake: {describe(owner)}; {by_hand}")
        if unknown:
            raise StudyError(f"results/{study}: locked by a Snakemake, nobody knows which; {by_hand}")
        for name in locks:
            (LOCKS / name).unlink()
        for file in owners:
            file.unlink()
        return [f"results/{study}: lock released: {describe(owner)}: its process is gone" for owner in owners.values()]


def parser(prog: str) -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").splitlines()[0])
    command.add_argument("study", metavar="STUDY|FILE", help="a shipped study, such as digits, or a study file")
    return command


def main(arguments: list[str] | None = None, prog: str = "python -m robustgap.workflow.unlock") -> int:
    options = parser(prog).parse_args(arguments)
    try:
        file = study_file(options.study)
        for line in release(resolve(read_study(file), file)["study"]):
            print(line, file=sys.stderr)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
