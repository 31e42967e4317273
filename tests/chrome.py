"""A headless Chromium for tests of pages: opens a file at a width and gives back what a reader would see.

It is driven by chromedriver's own HTTP protocol, since a window of Chromium cannot be as narrow as a telephone.
"""

import base64
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
DRIVER = shutil.which("chromedriver") or ""
MISSING = "needs Chromium and chromedriver (Debian: apt-get install chromium chromium-driver)"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


KEYS = {"left": "\ue012", "up": "\ue013", "right": "\ue014", "down": "\ue015", "escape": "\ue00c", "enter": "\ue007"}


class Page:
    """An open page.

    Args:
        session: address of chromedriver's session.
    """

    def __init__(self, session: str) -> None:
        self.session = session

    def show(self, file: Path, *, width: int, scheme: str = "light", media: str = "screen") -> None:
        """Load a file at a width in CSS pixels, in a colour scheme, for the screen or for print."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._cdp("Emulation.setEmulatedMedia", media=media, features=features)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._cdp("Emulation.setDeviceMetricsOverride", **size)
        self._post("/url", url=file.resolve().as_uri())

    def reload(self) -> None:
        """Load the page anew."""
        self._post("/refresh")

    def run(self, script: str) -> Any:
        """Return what a script returns in the page."""
        return self._post("/execute/sync", script=script, args=[])

    def console(self) -> list[str]:
        """Return the messages of the browser's console since the last call: errors, refused files, warnings."""
        return [entry["message"] for entry in self._post("/se/log", type="browser")]

    def press(self, *keys: str) -> None:
        """Press keys one after the other, as a person does; those of WebDriver's table are named by `KEYS`."""
        pressed = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("/actions", actions=[{"type": "key", "id": "keys", "actions": pressed}])

    def drag(self, start: tuple[int, int], by: tuple[int, int]) -> None:
        """Press the mouse at a point, in CSS pixels from the window's corner, move it, and let it go."""
        steps = [
            {"type": "pointerMove", "x": start[0], "y": start[1]},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerMove", "x": start[0] + by[0], "y": start[1] + by[1], "duration": 50},
            {"type": "pointerUp", "button": 0},
        ]
        self._post("/actions", actions=[{"type": "pointer", "id": "mouse", "actions": steps}])

    def roll(self, at: tuple[int, int], down: int) -> None:
        """Turn the mouse's wheel at a point by so many CSS pixels."""
        turn = {"type": "scroll", "x": at[0], "y": at[1], "deltaX": 0, "deltaY": down}
        self._post("/actions", actions=[{"type": "wheel", "id": "wheel", "actions": [turn]}])

    def choose_file(self, selector: str, file: Path) -> None:
        """Give a file to an input."""
        [found] = self._post("/element", using="css selector", value=selector).values()
        self._post(f"/element/{found}/value", text=str(file.resolve()))

    def download_to(self, folder: Path) -> None:
        """Let downloads go into a folder without a question."""
        self._cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def before_loading(self, script: str) -> None:
        """Run a script in every page that is loaded from now on, before its own."""
        self._cdp("Page.addScriptToEvaluateOnNewDocument", source=script)

    def shoot(self, file: Path) -> Path:
        """Write a PNG of the whole page and return its path."""
        shot = self._cdp("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))
        return file

    def _cdp(self, command: str, **parameters: object) -> Any:
        return self._post("/goog/cdp/execute", cmd=command, params=parameters)

    def _post(self, path: str, **body: object) -> Any:
        return post(self.session + path, **body)


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Run a browser with a new profile; it ends with the context."""
    command = [DRIVER, "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        try:
            address = f"http://127.0.0.1:{_port(driver)}/session"
            options = {"binary": BROWSER, "args": [*FLAGS, f"--user-data-dir={profile}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = post(address, capabilities={"alwaysMatch": wanted})["sessionId"]
            try:
                yield Page(f"{address}/{session}")
            finally:
                with urllib.request.urlopen(urllib.request.Request(f"{address}/{session}", method="DELETE")):
                    pass
        finally:
            driver.terminate()


def post(address: str, **body: object) -> Any:
    """Return the value of chromedriver's answer."""
    data, head = json.dumps(body).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(address, data, head), timeout=60) as answer:
        return json.load(answer)["value"]


def _port(driver: "subprocess.Popen[str]") -> str:
    """Return the port that chromedriver says it took."""
    assert driver.stdout is not None
    for line in driver.stdout:
        if found := re.search(r"started successfully on port (\d+)", line):
            return found.group(1)
    raise AssertionError("chromedriver ended without naming its port")
