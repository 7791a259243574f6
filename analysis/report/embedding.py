"""Embeds files in a page as data links or images, so that the page needs no other files."""

import base64
import gzip
import io
import re
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

LARGE = 20_000  # bytes; larger tables are embedded compressed
HEAVY = 2_000_000  # bytes; heavier SVGs are replaced by PNGs
MEDIA_TYPES = {"csv": "text/csv", "tex": "text/x-tex", "zip": "application/zip", "gz": "application/gzip"}
# Characters to escape in a URL within single quotes; escaping only these is a quarter shorter than base64.
IN_ADDRESS = str.maketrans({"%": "%25", "#": "%23", "<": "%3C", ">": "%3E", "&": "%26", "'": "%27"})


def link(name: str, content: bytes) -> dict[str, str]:
    """{'name', 'href'} of a file with this content; large tables are gzipped ('NAME.csv.gz')."""
    if name.endswith(".csv") and len(content) > LARGE:
        content, name = gzip.compress(content, mtime=0), f"{name}.gz"
    kind = MEDIA_TYPES[name.rpartition(".")[2]]
    return {"name": name, "href": f"data:{kind};base64,{base64.b64encode(content).decode()}"}


def file_link(path: Path) -> dict[str, str]:
    """A file as `link`. Raises FileNotFoundError if it does not exist."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return link(path.name, path.read_bytes())


def picture(folder: Path, name: str) -> str:
    """Data URL of NAME.svg in a folder, or of NAME.png if there is no SVG or it is too heavy to show.

    Safe within single quotes in HTML. Raises FileNotFoundError if neither exists.
    """
    vector, pixels = folder / f"{name}.svg", folder / f"{name}.png"
    if vector.is_file() and vector.stat().st_size <= HEAVY:
        text = re.sub(r"\s*\n\s*", " ", vector.read_text(encoding="utf-8"))
        return "data:image/svg+xml;charset=utf-8," + text.translate(IN_ADDRESS)
    if not pixels.is_file():
        raise FileNotFoundError(f"{pixels}: no such file")
    return f"data:image/png;base64,{base64.b64encode(pixels.read_bytes()).decode()}"


def archive(name: str, files: Mapping[str, bytes]) -> dict[str, str]:
    """`link` to a ZIP archive of these files; its bytes depend only on their names and contents."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as zipped:
        for path, content in files.items():
            zipped.writestr(ZipInfo(path), content, ZIP_DEFLATED, 9)
    return link(name, buffer.getvalue())
