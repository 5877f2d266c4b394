"""How many bytes are read, and how much memory is used, by the size of a source's row groups.

    python -m tests.benchmarks.reading WORK_FOLDER [--pairs N] [--write]

20,000 pairs of 256 px JPEGs in row groups of 100 and 1,000 pairs, and in one row group. Every step
runs in a process of its own. Bytes are those that the process asked the system for, against the
bytes of the source's files. `--write` puts the table into tests/benchmarks/results/reading.md.
"""

import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

PAIRS = 20_000
RESULTS = Path(__file__).parent / "results" / "reading.md"
AT_RANDOM = 200
"""Images that are read in a random order, as a desk or a first visit would."""


def copying_ingest(work: Path) -> None:
    """Decode, hash and copy every image."""
    _ingest(work, "copy")


def ingest_by_reference(work: Path) -> None:
    """Leave the images where they are."""
    _ingest(work, "reference")


def _ingest(work: Path, images: str) -> None:
    from toolkit.ingest import ingest
    from toolkit.store import create_store

    folder = work / images
    shutil.rmtree(folder, ignore_errors=True)
    ingest(create_store(folder), "pickapic", [work / "source"], images=images)


def thumbnails(work: Path) -> None:
    """A thumbnail of every image by reference (of 256 px, so each is read and needs none)."""
    from toolkit.ingest.new_images import make_thumbnails
    from toolkit.store import open_store

    make_thumbnails(open_store(work / "reference"))


def read_in_stored_order(work: Path) -> None:
    """Every image by reference, as `outvoted cache` reads them."""
    reader, names = _images(work)
    for name in reader.in_stored_order(names):
        reader.read(name)


def read_at_random(work: Path) -> None:
    """200 images by reference in a random order, as the desk reads originals."""
    reader, names = _images(work)
    for name in random.Random(0).sample(names, min(AT_RANDOM, len(names))):
        reader.read(name)


def _images(work: Path) -> tuple[Any, list[str]]:
    from toolkit.store import open_store
    from toolkit.store.connection import read_pairs
    from toolkit.store.images import ImageReader

    store = open_store(work / "reference")
    pairs = read_pairs(store, ["image_0", "image_1"])
    names = [*pairs["image_0"].to_pylist(), *pairs["image_1"].to_pylist()]
    return ImageReader(store), sorted(names)


STEPS: dict[str, Callable[[Path], None]] = {
    "copying ingest": copying_ingest,
    "ingest by reference": ingest_by_reference,
    "thumbnails": thumbnails,
    "all images in stored order (`outvoted cache`)": read_in_stored_order,
    f"{AT_RANDOM} images at random": read_at_random,
}


def measured(step: str, work: Path) -> dict[str, float]:
    """Bytes read, peak memory in MB and CPU seconds of a step, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.reading", str(work), "--step", step]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run_step(step: str, work: Path) -> None:
    """Run a step in this process and print what it took."""
    before = _bytes_read()
    STEPS[step](work)
    used = resource.getrusage(resource.RUSAGE_SELF)
    taken = {
        "bytes": _bytes_read() - before,
        "memory": _peak_memory() / 1000,
        "cpu": used.ru_utime + used.ru_stime,
    }
    print(json.dumps(taken))


def _peak_memory() -> int:
    """In kB. ru_maxrss would include what the parent process had in memory at the fork."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def _bytes_read() -> int:
    """Of this process, by read calls and memory maps alike counted as they are asked for."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def main() -> None:
    """Measure every step on every layout and print the table."""
    from tests.benchmarks.synthetic import write_pictures

    work = Path(sys.argv[1])
    if "--step" in sys.argv:
        run_step(sys.argv[sys.argv.index("--step") + 1], work)
        return
    pairs = int(sys.argv[sys.argv.index("--pairs") + 1]) if "--pairs" in sys.argv else PAIRS
    rows = []
    for name, row_group in (("100", 100), ("1,000", 1000), ("all in one", pairs)):
        folder = work / str(row_group)
        if not (folder / "source").exists():
            write_pictures(folder / "source", pairs, per_file=pairs, row_group=row_group)
        size = sum(file.stat().st_size for file in (folder / "source").iterdir())
        for step in STEPS:
            got = measured(step, folder)
            rows.append(
                f"| {name} | {step} | {got['bytes'] / 1e6:,.0f} MB | {got['bytes'] / size:.2f} |"
                f" {got['memory']:,.0f} MB | {got['cpu']:.1f} |"
            )
            print(rows[-1], flush=True)
    head = [
        "# What is read, by the size of a source's row groups",
        "",
        f"{pairs:,} pairs of 256 px JPEGs ({size / 1e6:,.0f} MB). "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, pyarrow {pa.__version__}.",
        "",
        "    python -m tests.benchmarks.reading WORK --write",
        "",
        "| pairs a row group | what | read | of the source's bytes | peak memory | CPU seconds |",
        "|---|---|---|---|---|---|",
    ]
    if "--write" in sys.argv:
        RESULTS.write_text("\n".join([*head, *rows]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
