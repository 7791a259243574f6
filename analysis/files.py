"""Reading and writing files: read errors are one line naming the file; files are written atomically."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def require_columns(table: pd.DataFrame, wanted: Iterable[str], file: str | Path) -> None:
    """Raise ValueError naming the file, the missing and the present columns unless `table` has all wanted columns."""
    missing = [column for column in wanted if column not in table.columns]
    if missing:
        found = ", ".join(map(str, table.columns)) or "none"
        raise ValueError(f"{file}: wanted column {', '.join(missing)}; found columns: {found}")


def read_parquet(path: str | Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a parquet file. Raises FileNotFoundError, or ValueError if it is unreadable or lacks a column."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with pq.ParquetFile(path) as file:  # pq.read_table selects columns by name and fails on duplicate names
            table = file.read().to_pandas()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: found no readable parquet (truncated or not parquet?): {reason}") from error
    require_columns(table, columns, path)
    return table


def with_numbers(table: pd.DataFrame, columns: Iterable[str], file: str | Path) -> pd.DataFrame:
    """`table` with these columns converted to numbers. Raises ValueError naming file, row and column of the first text
    cell."""
    numbers = {}
    for name in columns:
        numbers[name] = pd.to_numeric(table[name], errors="coerce")
        bad = (numbers[name].isna() & table[name].notna()).to_numpy()
        if bad.any():
            row = int(bad.argmax())
            cell = table[name].iloc[row]
            raise ValueError(f"{file}, row {row + 1}: found {cell!r} in column {name!r}, wanted a number")
    return table.assign(**numbers)


def read_json(path: str | Path, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Read a JSON object. Raises FileNotFoundError, or ValueError if it is truncated, not an object, or lacks a key."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except OSError as error:  # a folder, or a file where a folder is wanted
        raise ValueError(f"{path}: found no readable file, wanted a JSON object: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: found no readable JSON (truncated?): {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: found a JSON {type(content).__name__}, wanted an object")
    for key in keys:
        if key not in content:
            raise ValueError(f"{path}: wanted key {key!r}; found keys: {', '.join(content) or 'none'}")
    return content


def expand_home(path: Path) -> Path:
    """`path` with `~` expanded: a shell passes `--out=~/x` unexpanded, which would create a folder named `~`. Raises
    ValueError if that user's home is unknown."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"found {str(path)!r}, wanted a path: no home of {path.parts[0]} is known") from error


def make_folder(path: str | Path) -> Path:
    """The folder, made if missing: before long work, so that a place that cannot be written is an error at once."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def replace(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write atomically: `write` fills a temporary file beside `path`, which is then renamed to `path`."""
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(content: str, path: str | Path) -> None:
    """Write text atomically."""
    replace(path, lambda temporary: temporary.write_text(content, encoding="utf-8"))


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as CSV atomically: missing numbers as empty cells, numbers at full precision."""
    replace(path, lambda temporary: table.to_csv(temporary, index=False, lineterminator="\n"))


def write_parquet(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as parquet atomically, without its index."""
    replace(path, lambda temporary: pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary))
