"""The folder of statistics: every statistic as NAME.csv, and of a ledger findings.json."""

import json
from pathlib import Path
from typing import Any

from robustgap.analysis.files import make_folder, write_csv, write_text
from robustgap.analysis.findings.numbers import find
from robustgap.analysis.findings.sentences import sentences
from robustgap.analysis.ledger_digest import ledger_digest
from robustgap.analysis.progress import bar
from robustgap.analysis.statistics import DIGEST, FINDINGS, Statistics, entry

FINDINGS_CONTENT = "the sentences of the report, and the numbers that they are made of (JSON)"


def contents(statistics: Statistics) -> dict[str, str]:
    """{name: what the file asks or holds} of the folder of a ledger, in reading order."""
    return {**{name: entry(name).asks for name in statistics.names}, FINDINGS: FINDINGS_CONTENT}


def file_name(name: str) -> str:
    """Name of a file of the folder: 'claims' -> 'claims.csv'."""
    return f"{name}.json" if name == FINDINGS else f"{name}.csv"


def findings(statistics: Statistics) -> dict[str, Any]:
    """The numbers behind the report's sentences, and the sentences."""
    numbers = find(statistics)
    return {**numbers, "sentences": sentences(numbers)}


def write_statistics(statistics: Statistics, out: str | Path) -> list[Path]:
    """Write every statistic into folder `out`, NAME.csv each, and of a ledger findings.json (numbers, and sentences
    made from them; the same without flagged models under `without_flagged`; the ledger's digest); returns the
    files."""
    folder = make_folder(out)
    tables = {name: statistics.table(name) for name in bar(statistics.names, "statistics")}
    paths = [folder / file_name(name) for name in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        write_csv(table, path)
    ledger = statistics.data.ledger
    if ledger is None:
        return paths
    unflagged = statistics.unflagged
    content = {**findings(statistics), "without_flagged": findings(unflagged) if unflagged else None}
    content[DIGEST] = ledger_digest(ledger)
    paths.append(folder / file_name(FINDINGS))
    write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", paths[-1])
    return paths
