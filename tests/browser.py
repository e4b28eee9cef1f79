"""A headless Chromium spoken to over its debugging pipe: enough to open a page, look at it and hear its complaints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

Json = dict[str, object]


def find_browser() -> str:
    """The browser's path; skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium here (install the package chromium to run this test)")


class Browser:
    """One browser process. Commands and answers are JSON values that end with a zero byte."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._rest = b""
        self._last = 0
        self.session = ""
        self.complaints: list[str] = []

    def ask(self, method: str, **parameters: object) -> Json:
        """The result of a command; complaints of the page that come meanwhile are kept."""
        self._last += 1
        message: Json = {"id": self._last, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                result = answer["result"]
                assert isinstance(result, dict)
                return result

    def _next(self) -> Json:
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 16)
            assert part, "the browser closed its pipe"
            self._rest += part
        one, self._rest = self._rest.split(b"\0", 1)
        answer: Json = json.loads(one)
        if answer.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Audits.issueAdded"):
            self.complaints.append(json.dumps(answer["params"]))
        return answer

    def value(self, expression: str) -> object:
        """What a JavaScript expression gives in the page."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"]
        assert isinstance(result, dict)
        return result.get("value")

    def show(self, page: Path, width: int, scheme: str, medium: str = "") -> None:
        """Loads the page at a width in CSS pixels, in the light or dark scheme."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", media=medium, features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Page.navigate", url=page.as_uri())
        while self.value("document.readyState + location.protocol") != "completefile:":
            pass


@contextmanager
def open_browser(home: Path) -> Iterator[Browser]:
    """A browser with its own empty home folder, ended with the block."""
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    command = [
        *(find_browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
        *(f"--user-data-dir={home}", "--remote-debugging-pipe", "about:blank"),
    ]
    # The browser reads commands on descriptor 3 and answers on 4.
    shell = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", *command],
        pass_fds=(to_browser, from_browser),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    browser = Browser(write, read)
    try:
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        browser.session = str(browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            browser.ask(f"{domain}.enable")
        yield browser
    finally:
        process.terminate()
        process.wait(timeout=20)
        os.close(write)
        os.close(read)
