"""A headless Chromium for tests of pages, driven over its debugging pipe with nothing but the standard library."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any


NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-background-networking"),
    *(
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--in-process-gpu",
        "--renderer-process-limit=1",
    ),
)
KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9, "Enter": 13, " ": 32, "End": 35, "Home": 36}
SECONDS = 60.0


def find() -> str | None:
    """The browser's program; CHROMIUM names another one."""
    return os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)


class Tab:
    """One page of a running browser."""

    def __init__(self, process: subprocess.Popen):
        self.process, self.rest, self.ids, self.session = process, b"", itertools.count(1), None
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer; what went wrong on the page in the meantime is kept in `errors`."""
        number = next(self.ids)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": self.session} if self.session else {})
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            assert piece, "the browser fell silent"
            self.rest += piece
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            details = event["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.errors.append(event["params"]["entry"]["text"])

    def open(self, path: pathlib.Path, fragment: str = "") -> None:
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=path.absolute().as_uri() + fragment)
        self.js("new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page, a promise awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        for key in keys:
            known = {"key": key, "windowsVirtualKeyCode": KEYS[key]} | ({"text": key} if key == " " else {})
            self.call("Input.dispatchKeyEvent", type="keyDown", **known)
            self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def size(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, *, print_: bool = False, **features: str) -> None:
        """Emulate `prefers_color_scheme="dark"` and the like, or print."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", media="print" if print_ else "", features=named)

    def accessible(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(role, name, properties) of what the accessibility tree shows."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        told = lambda node, what: node.get(what, {}).get("value", "")
        properties = lambda node: {p["name"]: p["value"].get("value") for p in node.get("properties", ())}
        return [(told(node, "role"), told(node, "name"), properties(node)) for node in nodes if not node.get("ignored")]


@contextlib.contextmanager
def browser(program: str, folder: pathlib.Path) -> Iterator[Tab]:
    """A tab of a browser with its profile in `folder`; closed, or else killed, at the end."""
    line = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null']  # its pipe is 3 and 4
    process = subprocess.Popen(
        [*line, program, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        tab = Tab(process)
        yield tab
        tab.session = None
        tab.call("Browser.close")
        process.wait(20)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
