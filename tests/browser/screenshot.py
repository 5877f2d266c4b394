"""A picture of the desk for the README: `python -m tests.browser.screenshot STORE RUN OUT.png`.

Options: --scheme light|dark, --page NAME (queue, grid, pair ...), --width, --height. The verdict
journal lies in a temporary folder, and the store is not written to.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser.desk import absent, browsing, free_port, ready, serving, settled

DRAWN = {
    "queue": ".barlayer path",
    "grid": "#grid-ready",
    "pair": ".scatterlayer path",
    "map": ".plotly .point, .plotly .bars path",
    "overview": ".barlayer path",
}
"""A page, and what is there once it is drawn."""

LARGEST = 200_000
"""Bytes; above it the picture goes down to 256 colours, which a page of flat colours survives."""


def shoot(
    store: Path, run: str, out: Path, *, scheme: str, page: str, size: tuple[int, int]
) -> int:
    """Save the page as a PNG below LARGEST; how many bytes it has."""
    with tempfile.TemporaryDirectory() as aside:
        options = ["--run", run] if run else []
        options += ["--journal", f"{aside}/verdicts.sqlite", "--curator", "curator"]
        with (
            serving(store, "--port", str(free_port()), *options) as server,
            browsing(scheme, *size) as browser,
        ):
            browser.goto(server.address)
            ready(browser)
            if page != "queue":  # from the menu, as a person comes there
                browser.get_by_role("link", name=page.capitalize(), exact=True).first.click()
            browser.wait_for_selector(DRAWN[page], state="attached")
            settled(browser)
            browser.wait_for_timeout(1500)  # charts fade in
            out.parent.mkdir(parents=True, exist_ok=True)
            browser.screenshot(path=str(out))
            for problem in browser.said:
                print(f"console: {problem}", file=sys.stderr)
    return _fit(out)


def _fit(out: Path) -> int:
    with Image.open(out) as picture:
        picture.convert("RGB").save(out, "PNG", optimize=True)
    if out.stat().st_size > LARGEST:
        with Image.open(out) as picture:
            picture.convert("P", palette=Image.Palette.ADAPTIVE).save(out, "PNG", optimize=True)
    return out.stat().st_size


def main() -> int:
    """Parse, shoot, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshot")
    parser.add_argument("store", type=Path)
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--page", choices=DRAWN, default="queue")
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--height", type=int, default=900)
    asked = parser.parse_args()
    if reason := absent():
        print(f"No screenshot: {reason}.", file=sys.stderr)
        return 1
    size = (asked.width, asked.height)
    written = shoot(
        asked.store, asked.run, asked.out, scheme=asked.scheme, page=asked.page, size=size
    )
    print(f"{asked.out}: {written:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
