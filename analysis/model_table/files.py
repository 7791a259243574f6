"""Reads a table file into text cells: gzipped or not, UTF-8 or older encodings, comma or semicolon, CSV or parquet.

The file type is detected from the first bytes, not the name. An unreadable file gives a one-line error that says what
to do.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robustgap.analysis.files import read_parquet
from robustgap.analysis.ledger import text

GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
SAVE_AS = "save the sheet as CSV (UTF-8) and name that file"
UNPACK = "unpack it first"
FOREIGN = {  # first bytes of other file types: what they are, and what to do
    b"PK\x03\x04": ("an Excel workbook or a zip archive", f"{SAVE_AS}, or {UNPACK}"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", SAVE_AS),
    b"BZh": ("a file compressed by bzip2", UNPACK),
    b"\xfd7zXZ": ("a file compressed by xz", UNPACK),
    b"\x28\xb5\x2f\xfd": ("a file compressed by zstd", UNPACK),
    b"\x89HDF": ("an HDF5 file", "write it as parquet or CSV"),
    b"ARROW1": ("a feather file", "write it as parquet or CSV"),
}
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")  # byte order marks of UTF-16
UTF16_NOTE = "the file is read as UTF-16"
LATIN_NOTE = "the file is not UTF-8 and is read as Latin-1: check names with letters beyond plain ASCII"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def unpacked(content: bytes, path: Path) -> bytes:
    """A file's content, decompressed if gzipped. Raises ValueError if it is truncated."""
    if not content.startswith(GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: found no readable gzip (cut short?): {error}") from error


def decoded(content: bytes, path: Path) -> tuple[str, list[str]]:
    """A file's text, and its encoding if not UTF-8. Raises ValueError if it is not text."""
    for start, (found, wanted) in FOREIGN.items():
        if content.startswith(start):
            raise ValueError(f"{path}: found {found}, wanted CSV or parquet: {wanted}")
    if content.lstrip()[:1] in (b"{", b"["):
        raise ValueError(f"{path}: found JSON, wanted CSV or parquet: write the table as CSV")
    wide = content.startswith(UTF16_MARKS)
    try:
        found, notes = (content.decode("utf-16"), [UTF16_NOTE]) if wide else (content.decode("utf-8-sig"), [])
    except UnicodeDecodeError as error:
        if wide:
            raise ValueError(f"{path}: found no readable UTF-16 (cut short?): {error.reason}") from error
        found, notes = content.decode("latin-1"), [LATIN_NOTE]
    if "\0" in found:
        raise ValueError(f"{path}: found bytes that are not text, wanted CSV (UTF-8) or parquet")
    return found, notes


def split_cells(content: str, separator: str, path: Path) -> list[list[str]]:
    """The non-blank lines of a CSV as cells. Raises ValueError for an unclosed quote."""
    lines = csv.reader(io.StringIO(content, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        return [cells for cells in lines if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ValueError(f"{path}: found no readable CSV: {' '.join(str(error).split())}") from error


def find_separator(content: str) -> tuple[str, str]:
    """The separator, and the content without Excel's `sep=;` line: the separator that line names, else the one that
    splits the first line into the most cells."""
    first, *rest = re.split(r"\r\n|\r|\n", content.lstrip("\r\n"), maxsplit=1)
    if first.lower().startswith("sep=") and first[4:] in SEPARATORS:
        return first[4:], "".join(rest)
    counts = {}
    for separator in SEPARATORS:
        try:
            counts[separator] = len(
                next(csv.reader([first], delimiter=separator, skipinitialspace=True, strict=True), [])
            )
        except csv.Error:  # text after a quoted name: this is not the separator
            counts[separator] = 0
    return max(SEPARATORS, key=counts.__getitem__), content


def read_csv(content: bytes, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """A CSV with every cell as text, and notes on how it was read; blank lines are skipped.

    Raises ValueError for a row whose number of cells differs from that of the header: the file is truncated, or cells
    are in the wrong columns.
    """
    text_content, notes = decoded(content, path)
    separator, text_content = find_separator(text_content)
    lines = split_cells(text_content, separator, path)
    if separator != ",":
        notes.append(f"cells are separated by {SEPARATORS[separator]}")
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(header):
            wanted = f"{len(header)}, one for each column"
            raise ValueError(f"{path}, row {number}: found {len(cells)} cells, wanted {wanted}")
    return pd.DataFrame(rows, columns=[name.strip() for name in header], dtype=str), notes


def parquet_cells(path: Path) -> pd.DataFrame:
    """A parquet file with every cell as text ('' if missing); named indices become columns."""
    table = read_parquet(path)
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    columns = [table.iloc[:, index].reset_index(drop=True) for index in range(table.shape[1])]
    cells = [column.map(text).where(column.notna(), "").astype(str) for column in columns]
    return pd.concat(cells, axis=1).set_axis(table.columns.map(str), axis=1) if cells else pd.DataFrame()


def unique_names(names: Sequence[str]) -> list[str]:
    """Column names made unique: the second of one name becomes NAME.2 and so on."""
    unique: list[str] = []
    for index, name in enumerate(names):
        candidate, number = name, 1
        while candidate in unique or (number > 1 and candidate in names[index:]):
            number += 1
            candidate = f"{name}.{number}"
        unique.append(candidate)
    return unique


def read_any(path: str | Path) -> tuple[pd.DataFrame, list[str], dict[str, str]]:
    """A CSV or parquet file with every cell as text, notes on how it was read, and the original names of columns
    renamed because they were duplicates. Unnamed columns (a written row index) are called ''.

    Raises FileNotFoundError, or ValueError if the file is unreadable or has no rows.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    content = unpacked(raw := path.read_bytes(), path)
    if content.startswith(PARQUET) and content is not raw:
        raise ValueError(f"{path}: found a compressed parquet file, wanted an uncompressed one: {UNPACK}")
    if content.startswith(PARQUET) or path.suffix in (".parquet", ".pq"):
        table, notes = parquet_cells(path), list[str]()
    else:
        table, notes = read_csv(content, path)
    if table.empty:
        raise ValueError(f"{path}: found 0 rows, wanted one per model")
    names = [str(name) for name in table.columns if name != ""]
    unique = unique_names(names)
    renamed = {new: name for new, name in zip(unique, names, strict=True) if new != name}
    if renamed:
        repeated = ", ".join(dict.fromkeys(renamed.values()))
        notes.append(f"columns of one name ({repeated}): the later ones are renamed to {', '.join(renamed)}")
    order = iter(unique)
    table.columns = pd.Index([next(order) if name != "" else "" for name in table.columns])
    return table, notes, renamed
