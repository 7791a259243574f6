"""Downloads from a real server on this machine that cuts off, answers with pages, or serves the file."""

import http.server
import re
import threading

import pytest
from public_files import md5

from robustgap.training.checkpoint import FileFault
from robustgap.training.data.fetch import fetch, verified
from robustgap.training.facts import DataFile

CONTENT = b"pixels and labels" * 100_000  # 1.7 MB: more than one block of a download
PAGE = b"<!DOCTYPE html><html><body>Quota exceeded</body></html>"
CHUNK = b"%x\r\n%b\r\n" % (len(CONTENT), CONTENT)
ANSWERS = {
    "/good": b"Content-Length: %d\r\n\r\n%b" % (len(CONTENT), CONTENT),
    "/chunked": b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % CHUNK,
    "/truncated": b"Content-Length: %d\r\n\r\n%b" % (len(CONTENT), CONTENT[:-9]),
    "/nothing": b"Content-Length: %d\r\n\r\n" % len(CONTENT),
    "/cut-chunk": b"Transfer-Encoding: chunked\r\n\r\n%b" % CHUNK[:-9],
    "/no-last-chunk": b"Transfer-Encoding: chunked\r\n\r\n%b" % CHUNK,
    "/page": b"Content-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(PAGE), PAGE),
    "/no-http": None,
}
BROKEN = {
    "/truncated": rf"found {len(CONTENT) - 9:,} bytes, wanted {len(CONTENT):,}",
    "/nothing": rf"found 0 bytes, wanted {len(CONTENT):,}",
    "/cut-chunk": r"IncompleteRead\([^;]+\)",
    "/no-last-chunk": r"IncompleteRead\([^;]+\)",
    "/no-http": r"[^;]+",
    "/two words": r"[^;]*control characters[^;]+",
}


class Server(http.server.BaseHTTPRequestHandler):
    """Sends a header and what ANSWERS says, then hangs up."""

    def do_GET(self):
        answer = ANSWERS.get(self.path)
        self.wfile.write(b"???\r\n" if answer is None else b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + answer)

    def log_message(self, *said):
        pass


@pytest.fixture(scope="module")
def address():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize("checksum", [md5(CONTENT), ""], ids=["checksum", "no checksum"])
@pytest.mark.parametrize("broken", [*BROKEN, "/page"])
@pytest.mark.parametrize("good", ["/good", "/chunked"])
def test_what_breaks_off_is_followed_by_the_next_address(broken, good, checksum, address, tmp_path):
    file = DataFile("images.bin", checksum, (address + broken, address + good))
    fetch(tmp_path, file)
    assert verified(tmp_path, file).read_bytes() == CONTENT and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("checksum", [md5(CONTENT), ""], ids=["checksum", "no checksum"])
def test_nothing_whole_is_one_line_with_what_each_address_gave(checksum, address, tmp_path):
    with pytest.raises(FileFault) as caught:
        fetch(tmp_path, DataFile("images.bin", checksum, tuple(address + path for path in [*BROKEN, "/page"])))
    page = r"MD5 found \w+, wanted \w+ \(an HTML page\)" if checksum else "found an HTML page, wanted the file"
    told = "; ".join(f"{address}{path}: {reason}" for path, reason in {**BROKEN, "/page": page}.items())
    place = re.escape(str(tmp_path / "images.bin"))
    assert re.fullmatch(rf"{place}: could not be downloaded \({told}\); put the file there", str(caught.value))
    assert list(tmp_path.iterdir()) == []


def test_a_page_saved_in_the_place_of_a_file_without_a_checksum_is_told(tmp_path):
    (tmp_path / "images.bin").write_bytes(PAGE)
    with pytest.raises(
        FileFault, match=r"images\.bin: found an HTML page, wanted the file; delete it to fetch it again"
    ):
        verified(tmp_path, DataFile("images.bin", ""))
