"""What computed the trainings of a ledger: CPU, instruction set, threads, versions and commit.

Training in different arithmetic (other instructions, versions or threads) gives different weights. So each run records
its arithmetic as text, and if a study has several, runs that differ from the majority are flagged.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from robustgap.analysis.files import read_json
from robustgap.analysis.ledger import split_flags

OTHER_ARITHMETIC = "other_arithmetic"  # flag


def arithmetic(made_by: list[dict[str, Any]]) -> str:
    """The arithmetic of a run's training as text, from `made_by` of its run.json: 'AVX2, reproducible, torch 2.13.0',
    or with CPU and device. '' if not recorded; joined by ' + ' for a run resumed elsewhere."""
    texts = []
    for origin in made_by:
        where = "reproducible" if origin["reproducible"] else f"{origin['cpu']}, {origin['device']}"
        texts.append(f"{origin['instructions']}, {where}, torch {origin['packages']['torch']}")
    return " + ".join(dict.fromkeys(texts))


def trainings(plan: dict[str, Any], results: Path) -> list[dict[str, Any]]:
    """The distinct environments that computed the study's runs, each with its number of runs; most runs first. Runs
    without a record are counted under none."""
    counts: Counter[str] = Counter()
    for run in plan["runs"]:
        path = results / "runs" / run / "run.json"
        if path.is_file():
            counts.update(json.dumps(origin, sort_keys=True) for origin in read_json(path).get("made_by", []))
    return [{"runs": number, **json.loads(origin)} for origin, number in counts.most_common()]


def training_text(training: dict[str, Any]) -> str:
    """An entry of `trainings` as text: '128 runs: AVX2, reproducible, torch 2.13.0; CPU ..., commit ...'."""
    runs = f"{training['runs']:,} run{'' if training['runs'] == 1 else 's'}"
    return f"{runs}: {arithmetic([training])}; CPU {training['cpu']}, commit {training['commit'] or 'not recorded'}"


def flag_other_arithmetic(runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` with the flag on every model whose run was trained in different arithmetic from the majority. Runs without
    a record are not flagged."""
    known = runs["arithmetic"] != ""
    if runs.loc[known, "arithmetic"].nunique() < 2:
        return runs
    most = runs.loc[known].drop_duplicates("run")["arithmetic"].value_counts().index[0]
    other = known & (runs["arithmetic"] != most)
    flagged = [";".join([*split_flags(flags), OTHER_ARITHMETIC]) for flags in runs.loc[other, "flags"]]
    return runs.assign(flags=runs["flags"].mask(other, pd.Series(flagged, index=runs.index[other], dtype=object)))
