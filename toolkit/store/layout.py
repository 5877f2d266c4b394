"""Where everything is in a store, and how one is made and opened.

STORE/store.json        format version and when the store was made
  pairs/ images/ thumbnails/ votes/ axes/ quarantine/ verdicts/    part-*.parquet
  labels/NAME.parquet + NAME.json
  scores/SCORER/part-*.parquet
  runs/RUN/             run.json, recipe.yaml, trajectory/rank-*/part-*.parquet, checkpoints/
  findings/RUN/NAME.parquet + NAME.json    (_store: those that need no run)
"""

import os
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import UNFINISHED, json_text, read_json, unfinished, write_new
from toolkit.files.remote import is_local, place, why

FORMAT_VERSION = 4
"""1: the first; 2: store.json names the store; 3: a finding has a row for each pair and window;
4: labels and votes are graded and weighted, axes are label sets.
See `toolkit.store.migrations`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Store:
    """An opened store: a folder whose version was checked. Holds no connection and no state."""

    root: Path

    def folder(self, *names: str) -> Path:
        """A folder or file below the root, by the words of the layout above."""
        return self.root.joinpath(*names)

    def run(self, name: str) -> Path:
        """The folder of a run (which may not exist yet)."""
        return self.folder("runs", check_name(name, "run"))

    def findings(self, run: str) -> Path:
        """The folder of a run's findings; of those that need no run for ""."""
        return self.folder("findings", check_name(run, "run") if run else "_store")

    def trajectory(self, run: str) -> list[Path]:
        """The parts of a run's trajectory, rank by rank in the order they were written."""
        return sorted(self.run(run).glob("trajectory/rank-*/part-*.parquet"))

    def runs(self) -> list[str]:
        """Names of the runs, in order of their names."""
        return sorted(p.parent.name for p in self.folder("runs").glob("*/run.json"))

    def journal(self) -> Path:
        """The desk's journal unless another is named: always on this machine's own disk."""
        if is_local(self.root):
            return self.folder("verdicts.sqlite")
        states = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(states, "outvoted", described(self.root)["store_id"], "verdicts.sqlite")

    def unfinished(self) -> list[Path]:
        """Files that killed writers left; readers ignore them, and those still being written."""
        return list(unfinished(self.root))


def check_name(name: str, what: str) -> str:
    """`name` if it can be a file name everywhere; InputError otherwise."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a {what}: use letters, digits, '.', '_' and '-', beginning "
            "with a letter or digit, 100 at most."
        )
    return name


def create_store(path: str | Path) -> Store:
    """Make an empty store. StoreError where the folder is not empty."""
    root = place(path)
    if not _made(root):
        raise StoreError(
            f"{root} is a store already; add to it with the same command without --new, or name "
            "another folder."
        )
    return Store(root)


def _made(root: Path) -> bool:
    """Make an empty store; False where there is one, perhaps since this moment."""
    about = {
        "format": FORMAT_VERSION,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "store_id": uuid.uuid4().hex,
    }
    try:
        # First the folder, then store.json: whoever adds to a new store made store.json before.
        foreign = root.exists() and (not root.is_dir() or any(map(_is_foreign, root.iterdir())))
        if (root / "store.json").exists():
            return False
        if foreign:
            raise StoreError(f"{root} exists and is not a store; name an empty or a new folder.")
        return write_new(root / "store.json", json_text(about).encode())
    except OSError as problem:
        raise StoreError(
            f"No store could be made at {root} ({why(problem)}); name a folder you may write."
        ) from problem


def _is_foreign(path: Path) -> bool:
    """Whether it is none of what a process leaves that is killed while it makes a store."""
    return not (path.name.startswith(".store.json.") and path.name.endswith(UNFINISHED))


def open_store(path: str | Path) -> Store:
    """Open a store of this format version. StoreError says what is there instead."""
    root = place(path)
    version = described(root)["format"]
    if version != FORMAT_VERSION and version in range(1, FORMAT_VERSION):
        raise StoreError(
            f"{root} is a store of format {version}; this version of outvoted reads format "
            f"{FORMAT_VERSION}. Type `outvoted check {root} --migrate`; nothing in it is lost."
        )
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{root} is a store of format {version!r}; this version of outvoted reads format "
            f"{FORMAT_VERSION}. Install the version that wrote it, or ingest the source again."
        )
    return Store(root)


def described(root: Path) -> dict[str, Any]:
    """What store.json says, `format` at the least. StoreError says what is there instead."""
    try:
        there = root.exists()
    except OSError as problem:  # an object store that does not answer
        raise StoreError(
            f"{root} cannot be reached ({why(problem)}); check that the address, the keys and the "
            "region are right (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_DEFAULT_REGION)."
        ) from problem
    if not there:
        raise StoreError(
            f"There is no store at {root}; `outvoted ingest KIND PATH --store {root}` makes one."
        )
    about = root / "store.json"
    if not about.is_file():
        raise StoreError(f"{root} is not a store (it has no store.json); name a store's folder.")
    remedy = f'restore it from a copy: it reads {{"format": {FORMAT_VERSION}}} at the least'
    try:
        return dict(read_json(about, remedy, format=int | str))
    except OSError as problem:
        raise StoreError(f"{about} cannot be read ({why(problem)}); {remedy}.") from problem


def open_or_create(path: str | Path) -> Store:
    """Open the store at `path`, or make one where there is nothing yet."""
    _made(place(path))
    return open_store(path)
