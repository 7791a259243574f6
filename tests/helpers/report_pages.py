"""A report read back as a page, and stand-ins for the figures that it shows."""

import base64
import gzip
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from robustgap.analysis import figures
from robustgap.analysis.ledger import Ledger

VOID = {"meta", "link", "img", "br", "hr", "input"}
PNG = b"\x89PNG stand-in"


class Page(HTMLParser):
    """A parsed page: (tag, attributes) in order, text, and a failure on tags that do not nest."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def draw_stand_ins(ledger: Ledger, folder: Path) -> None:
    """Files that stand for figures: drawing is tested elsewhere."""
    folder.mkdir()
    for name in figures.names():
        (folder / f"{name}.svg").write_text(f"<svg xmlns='http://www.w3.org/2000/svg' id=\"{name}\">50 % # &lt;</svg>")
        (folder / f"{name}.png").write_bytes(PNG)
        (folder / f"{name}.csv").write_text(f"figure,n\n{name},{len(ledger.runs)}\n")


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def embedded(href: str) -> bytes:
    """The content of a data: link."""
    head, _, content = href.partition(",")
    return base64.b64decode(content) if head.endswith(";base64") else unquote(content).encode()


def downloads(page: Page) -> dict[str, bytes]:
    """{name: content} of all files that a page offers, gzipped ones unpacked."""
    found = {link["download"]: embedded(link["href"]) for link in page.of("a") if "download" in link}
    return {
        name.removesuffix(".gz"): gzip.decompress(content) if name.endswith(".gz") else content
        for name, content in found.items()
    }
