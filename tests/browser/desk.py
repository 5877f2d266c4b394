"""Start the real desk as a process of its own, and look at it with a real Chromium."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
CALM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
]
"""Chromium without a sandbox (tests may run as root) and without calls of its own."""

PATIENCE = 90
"""Seconds: a busy machine is slow, and a slow desk is no broken one."""


def absent() -> str:
    """Why no browser test can run here; empty where it can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install 'outvoted[dev]'"
    return "" if shutil.which(CHROMIUM) else f"{CHROMIUM} is absent: apt-get install chromium"


class Server:
    """`outvoted app STORE` as a user starts it."""

    def __init__(self, store: Path, *options: str, cwd: Path | None = None) -> None:
        """Start it and wait for the line with the address. AssertionError where it ends instead."""
        command = Path(sys.executable).with_name("outvoted")
        self.process = subprocess.Popen(
            [str(command), "app", str(store), "--no-browser", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline().strip()
        if "http://" not in self.line:
            raise AssertionError(f"no address: {self.line!r} {self.errors()}")
        self.address = self.line.split(" at ")[1].split(" ")[0]

    def kill(self) -> None:
        """SIGKILL to the command and its server at once, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)

    @contextmanager
    def slowed(self, pause: float = 0.4, work: float = 0.15) -> Iterator[None]:
        """The server on a machine that gives it no time for `pause` seconds, again and again."""
        over = threading.Event()

        def slow() -> None:
            while not over.is_set():
                os.killpg(self.process.pid, signal.SIGSTOP)
                over.wait(pause)
                os.killpg(self.process.pid, signal.SIGCONT)
                over.wait(work)

        thread = threading.Thread(target=slow)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def interrupt(self) -> int:
        """Ctrl-C, and the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=15)

    def errors(self) -> str:
        """What the ended process wrote to stderr."""
        self.process.wait(timeout=15)
        assert self.process.stderr is not None
        return self.process.stderr.read()


@contextmanager
def serving(store: Path, *options: str, cwd: Path | None = None) -> Iterator[Server]:
    """A server that is gone afterwards."""
    server = Server(store, *options, cwd=cwd)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def browsing(scheme: str = "light", width: int = 1440, height: int = 900) -> Iterator[Any]:
    """A playwright page of that size; its console errors are collected in `page.said`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=CALM)
        page = new_page(browser, scheme, width, height)
        try:
            yield page
        finally:
            browser.close()


def new_page(browser: Any, scheme: str = "light", width: int = 1440, height: int = 900) -> Any:
    """A page in a context of its own, which remembers what it said and asked."""
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB"
    )
    page.set_default_timeout(1000 * PATIENCE)
    page.said, page.asked = [], []
    page.on("console", lambda message: _remember(page, message))
    page.on("pageerror", lambda problem: page.said.append(str(problem)))
    page.on("request", lambda request: page.asked.append(request.url))
    return page


def _remember(page: Any, message: Any) -> None:
    if message.type == "error":
        page.said.append(f"{message.text} {message.location['url']}")


WATCH = """() => {
    window.pressed = [];
    window.addEventListener("keydown", (event) => {
        const images = [...document.querySelectorAll(".judge .desk-mount img.own")];
        window.pressed.push({ key: event.key,
            pair: document.querySelector("#desk-ready")?.dataset.pair,
            state: document.querySelector(".judge")?.dataset.state,
            images: images.map((image) => image.dataset.image) });
    }, true);
}"""
"""Note, at each key, which pair the page showed; before anything acts on the key."""


def settled(page: Any) -> None:
    """Wait until the script of the page has run and nothing is left to draw."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def ready(page: Any, other_than: str | None = None) -> str:
    """Wait for a pair that takes keys (another one than `other_than`), with everything saved, and
    return its pair_id."""
    shown = (
        "(other) => { const judge = document.querySelector('.judge');"
        " const pair = judge?.querySelector('#desk-ready')?.dataset.pair;"
        " return judge?.dataset.state === 'ready' && judge.dataset.unsaved === '0'"
        " && pair && pair !== other && pair }"
    )
    return str(page.wait_for_function(shown, arg=other_than).json_value())
