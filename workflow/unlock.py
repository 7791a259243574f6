"""Releases the lock of a Snakemake that has died, killed or cut off from its terminal, on a study's results.

python -m robustgap.workflow.unlock STUDY|FILE

Snakemake lists the files it is about to write in .snakemake/locks, and removes the lists when it ends, but not after
SIGKILL or SIGHUP. From the first job on, a file next to them records which process made them. A lock is only released
if that process is known to have ended; locks without a record, or from another machine, are left to the user
(`snakemake --unlock`).
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
    """An id of this operating system that survives reboots; '' if not available."""
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
    """Record, next to the existing locks, that this process made them."""
    owner = json.loads(own_content()) | {"system": system(), "locks": locks_of(study)}
    LOCKS.mkdir(parents=True, exist_ok=True)
    (LOCKS / f"owner.{os.getpid()}").write_text(json.dumps(owner) + "\n", encoding="utf-8")


def rebooted(owner: Owner) -> bool:
    """Whether the owner ran on this machine before its last boot."""
    if not system() or (owner.get("host"), owner.get("system")) != (platform.node(), system()):
        return False
    boot_then, boot_now = (text.partition(" ")[0] for text in (str(owner.get("machine", "")), machine()))
    return "" not in (boot_then, boot_now) and boot_then != boot_now


def release(study: str) -> list[str]:
    """Remove the locks on a study and return messages about it. Raises StudyError, and removes nothing, if one of the
    processes that made them may still be running."""
    if not locks_of(study):
        return []
    with (LOCKS.parent / "release").open("w", encoding="utf-8") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)  # otherwise another process could remove a lock made since it checked
        locks = locks_of(study)
        owners = {file: read_content(file.read_bytes()) for file in sorted(LOCKS.glob("owner.*"))}
        made_by_owner = {file: locks.items() & owner.get("locks", {}).items() for file, owner in owners.items()}
        owners = {file: owner for file, owner in owners.items() if made_by_owner[file]}
        unowned = locks.items() - set().union(*made_by_owner.values())
        advice = f"if it is no longer running: snakemake --unlock (in {Path.cwd()})"
        for owner in owners.values():
            if not (surely_dead(owner) or rebooted(owner)):
                raise StudyError(f"results/{study}: locked by a Snakemake: {describe(owner)}; {advice}")
        if unowned:
            raise StudyError(f"results/{study}: locked by an unknown Snakemake; {advice}")
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
