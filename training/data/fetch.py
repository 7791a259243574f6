"""Public data files: where they are kept, their checksums, and how they are fetched.

A file is read only after its checksum has been compared. Only the data stage fetches: it downloads beside the target,
compares, and renames, so that a truncated download or a page of HTML never takes a file's place. Every error is one
line that names the file, and for a wrong file the checksum found and the one wanted.
"""

import hashlib
import http.client
import os
import shutil
import sys
import tarfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from robustgap.training.checkpoint import FileFault, write_atomically
from robustgap.training.facts import DataFile

TIMEOUT = 60  # seconds without an answer
PAGE = "an HTML page"


def checksum(path: Path, algorithm: str) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def looks_like(path: Path) -> str:
    """What a wrong file is: 'an HTML page', or its size."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    page = start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))
    return PAGE if page else f"{path.stat().st_size:,} bytes"


def fault(path: Path, wanted: str) -> str:
    """'' when the file has the wanted checksum (where none is known: when it is not an HTML page), else what is wrong,
    in a few words."""
    algorithm, _, digest = wanted.partition(":")
    if not digest:
        return "found an HTML page, wanted the file" if looks_like(path) == PAGE else ""
    found = checksum(path, algorithm)
    return "" if found == digest else f"{algorithm.upper()} found {found}, wanted {digest} ({looks_like(path)})"


def verified(root: Path, file: DataFile) -> Path:
    """The path of a file that exists and is intact.

    Raises FileFault naming it when it is missing, or truncated, altered or an HTML page, with both checksums.
    """
    path = root / file.path
    if not path.is_file():
        raise FileFault(f"{path}: not found; `python -m robustgap.training data` fetches it into the study's data_dir")
    if wrong := fault(path, file.checksum):
        raise FileFault(f"{path}: {wrong}; delete it to fetch it again")
    return path


def fetch(root: Path, file: DataFile, mirrors: Sequence[str] = (), offline: bool = False) -> None:
    """Make sure that a file lies below `root`: unpack it, or download it, from `mirrors` (addresses of copies of a
    data_dir) before its own addresses. An existing file is left alone; its checksum is compared when it is read. Raises
    FileFault naming the file when no address serves it, with the reason for each.
    """
    if (root / file.path).is_file():
        return
    if file.archive is not None:
        fetch(root, file.archive, mirrors, offline)
        unpack(verified(root, file.archive), root, file)
    elif offline:
        known = ", ".join(filter(None, (file.checksum, *file.urls)))
        raise FileFault(f"{root / file.path}: not found, and the study says offline; put the file there ({known})")
    else:
        download(root, file, mirrors)


def unpack(archive: Path, root: Path, file: DataFile) -> None:
    """Write the member `file.path` of a tar file below `root`. Raises FileFault when it has none."""
    with tarfile.open(archive) as members:
        try:
            member = members.extractfile(file.path)
        except KeyError:
            member = None
        if member is None:
            raise FileFault(f"{archive}: holds no file {file.path}")
        write_atomically(root / file.path, member.read())


def download(root: Path, file: DataFile, mirrors: Sequence[str]) -> None:
    """The first address whose file has the right checksum wins. Raises FileFault with what each of them returned."""
    path, name = root / file.path, Path(file.path).name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{name}.{os.getpid()}.part")
    reasons = []
    try:
        for url in [*(f"{mirror.rstrip('/')}/{file.path}" for mirror in mirrors), *file.urls]:
            print(f"downloading {url}", file=sys.stderr)
            try:
                wrong = copy_url(url, temporary) or fault(temporary, file.checksum)
            # URLError is an OSError; ValueError: not an address; HTTPException: cut off, or not HTTP
            except (OSError, ValueError, http.client.HTTPException) as error:
                wrong = " ".join(str(error).split()) or type(error).__name__
            if not wrong:
                os.replace(temporary, path)
                return
            reasons.append(f"{url}: {wrong}")
    finally:
        temporary.unlink(missing_ok=True)
    raise FileFault(
        f"{path}: could not be downloaded ({'; '.join(reasons) or 'no address is known'}); put the file there"
    )


def copy_url(url: str, target: Path) -> str:
    """Write what an address serves to `target`; '' when it is as long as was announced, else both lengths. Raises
    OSError, ValueError or HTTPException when the download fails or breaks off."""
    request = urllib.request.Request(url, headers={"User-Agent": "robustgap"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 2**20)
        found, wanted = file.tell(), source.headers.get("Content-Length")
    # when reading in blocks, http.client reports no error for a body that ends early
    return "" if wanted in (None, str(found)) else f"found {found:,} bytes, wanted {int(wanted):,}"
