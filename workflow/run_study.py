"""Runs a study from its plan to its report, with Snakemake, in a checkout of the project.

robustgap study STUDY|FILE [OPTIONS OF SNAKEMAKE]
"""

import os
import subprocess
import sys
from pathlib import Path

from robustgap.workflow import grid, unlock
from robustgap.workflow.study import ROOT, study_file, study_names

USAGE = """usage: {prog} STUDY|FILE [OPTIONS OF SNAKEMAKE]

STUDY is one of {studies}; FILE is a study file. Prints the plan, releases a lock left by a killed Snakemake, and runs
Snakemake, by default with --cores all and the profile for one machine."""
PROFILES = ("--profile", "--workflow-profile")


def command(file: Path, options: list[str]) -> list[str]:
    """Words of the command line that starts Snakemake."""
    option_names = {option.partition("=")[0] for option in options}
    words = [
        sys.executable,
        "-m",
        "snakemake",
        *options,
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--configfile",
        str(file),
    ]
    if not option_names & {"--cores", "-c", "--jobs", "-j", *PROFILES}:
        words += ["--cores", "all"]
    if not option_names & set(PROFILES):
        words += ["--workflow-profile", str(ROOT / "workflow" / "profiles" / "local")]
    return words


def main(arguments: list[str] | None = None, prog: str = "python -m robustgap.workflow.run_study") -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE.format(prog=prog, studies=", ".join(study_names())))
        return 0
    if not arguments or arguments[0].startswith("-"):
        found = repr(arguments[0]) if arguments else "nothing"
        print(f"error: found {found}, wanted STUDY|FILE first (`{prog} --help`)", file=sys.stderr)
        return 2
    try:
        if not (ROOT / "Snakefile").is_file():
            raise FileNotFoundError(
                f"{ROOT}: found an installed package, wanted a checkout of the project, with its Snakefile"
            )
        file = study_file(arguments[0])
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    failed = grid.main([str(file)]) or unlock.main([str(file)])
    sys.stdout.flush()
    if failed:
        return failed
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.run(command(file, arguments[1:]), env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
