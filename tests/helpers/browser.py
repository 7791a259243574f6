"""A headless Chromium without a network, driven through its DevTools pipe: no driver, no package, no open port."""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage")
# Nothing resolves, so that a page which asks for anything from elsewhere cannot have it.
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--disable-component-update")
PATIENCE = 240  # seconds for any one answer: a busy machine takes long to start a browser


def find() -> str | None:
    """Path of a Chromium: CHROMIUM in the environment, else one on the PATH, else None."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a headless Chromium. `requests`: addresses the page asked for; `errors`: what its scripts threw."""

    def __init__(self, program: str, profile: Path, width: int = 1400, height: int = 1000) -> None:
        theirs_in, self.to = os.pipe()
        self.answers, theirs_out = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]  # clear of 3 and 4

        def connect() -> None:  # in the child: Chromium reads commands from 3 and writes answers to 4
            for end, place in zip(ends, (3, 4), strict=True):
                os.dup2(end, place)

        command = [program, *FLAGS, *OFFLINE, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        self.process = subprocess.Popen(
            [*command, "--remote-debugging-pipe", "about:blank"],
            preexec_fn=connect,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (*ends, theirs_in, theirs_out):
            os.close(end)
        self.numbers, self.rest = itertools.count(1), b""
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        self.resize(width, height)

    def receive(self, until: float) -> dict:
        """The next message. Raises TimeoutError."""
        while b"\0" not in self.rest:
            if not select.select([self.answers], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError(f"no answer from the browser within {PATIENCE} s")
            chunk = os.read(self.answers, 1 << 20)
            if not chunk:
                raise ConnectionError(f"the browser ended with exit code {self.process.wait()}")
            self.rest += chunk
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def note(self, message: dict) -> None:
        """Keep what an event says."""
        told = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"])[:2000])
        elif message.get("method") == "Page.loadEventFired":
            self.loaded = True

    def call(self, method: str, **parameters: object) -> dict:
        """Send one command and wait for its answer. Raises RuntimeError with the browser's complaint."""
        number, session = next(self.numbers), getattr(self, "session", None)
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while (answer := self.receive(until)).get("id") != number:
            self.note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, file: Path) -> None:
        """Load a file and wait until all of it is there and its scripts have run."""
        self.loaded = False
        self.call("Page.navigate", url=file.as_uri())
        until = time.monotonic() + PATIENCE
        while not self.loaded:
            self.note(self.receive(until))

    def resize(self, width: int, height: int) -> None:
        """Give the window another size, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def run(self, expression: str) -> object:
        """Value of a JavaScript expression (promises are awaited). Raises RuntimeError when it throws."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression is true. Raises TimeoutError naming it."""
        until = time.monotonic() + PATIENCE
        frame = "new Promise((done) => requestAnimationFrame(() => setTimeout(done, 20)))"
        while not self.run(f"{frame}.then(() => Boolean({expression}))"):
            if time.monotonic() > until:
                raise TimeoutError(f"never became true: {expression}")

    def click(self, x: float, y: float) -> None:
        """Press and release the left button at a place of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def screenshot(self, file: Path, whole: bool = False) -> None:
        """Write what the window shows (or the whole page) as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """End the browser and wait for it."""
        os.close(self.to)  # Chromium ends with its pipe
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.answers)
