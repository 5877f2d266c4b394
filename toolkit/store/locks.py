"""Who may add to a store: ingests that take turns to write, or one that needs it alone.

On a file system these are the system's locks, which end with their process, however it ends. An
object store has none: each process writes a marker, and one that then sees another's removes its
own and waits or gives up, so that two never have it (listings of S3 are consistent). A killed
process leaves its marker, and the error says how to remove it.

A run is written for days, perhaps on a network disk where such locks do not reach every host. Its
writer has a `Lease`: a numbered file that names its process and is touched every few seconds. The
lease with the highest number counts. It ends when its process ends; where that cannot be seen from
here, when it was not touched for `LAPSE` seconds, by the clock of the disk. Making the next number
is one step of the file system, so of several processes that want it one succeeds.
"""

import fcntl
import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from toolkit.errors import StoreError
from toolkit.files.atomic import UNFINISHED
from toolkit.files.remote import is_local, put, why
from toolkit.store.layout import Store

_PATIENCE = 600.0
"""Seconds that an ingest waits for its turn in an object store; a turn takes seconds."""

BEAT = 10.0
"""Seconds between two touches of a lease."""

LAPSE = 60.0
"""Seconds without a touch after which the lease of a process on another host has ended."""


@contextmanager
def adding(store: Store, *, together: bool = False) -> Iterator[None]:
    """Have the store alone, or together with others who take turns to write.

    StoreError where another has it alone, or where it is needed alone and another has it.
    """
    if is_local(store.root):
        with _opened(store, ".ingest.lock") as handle:
            try:
                _try_lock(handle, fcntl.LOCK_SH if together else fcntl.LOCK_EX)
            except OSError as problem:
                raise StoreError(
                    f"Another ingest is writing to {store.root}; wait until it ends, then run this "
                    "command again."
                ) from problem
            yield
        return
    mine = _marker(store, "shared" if together else "alone")
    try:
        if other := _other(store, mine, ("alone",) if together else ("alone", "shared")):
            raise StoreError(_taken(store, other))
        yield
    finally:
        mine.unlink(missing_ok=True)


@contextmanager
def turn(store: Store) -> Iterator[None]:
    """Wait until no other ingest writes, and keep the others waiting meanwhile."""
    if is_local(store.root):
        with _opened(store, ".ingest.turn") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        return
    deadline = time.monotonic() + _PATIENCE
    while True:
        mine = _marker(store, "turn")
        try:
            other = _other(store, mine, ("turn",))
            if not other:
                yield
                return
        finally:
            mine.unlink(missing_ok=True)
        if time.monotonic() > deadline:
            raise StoreError(_taken(store, other))
        time.sleep(random.uniform(0.05, 0.5))


def _try_lock(handle: IO[str], kind: int) -> None:
    """OSError where another has it for longer than `is_adding` does."""
    for left in (3, 2, 1, 0):
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return
        except OSError:
            if not left:
                raise
            time.sleep(0.05)


def is_adding(store: Store) -> bool:
    """Whether an ingest is writing to the store."""
    if not is_local(store.root):
        return any(store.folder(".ingest").glob("*.json"))
    try:  # ingests share the lock: only who asks for it alone meets them
        with store.folder(".ingest.lock").open() as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock yet, or a disk without locks
        return False
    return False


@contextmanager
def first_at(store: Store, name: str) -> Iterator[bool]:
    """Whether nobody else is at this already.

    In an object store this cannot be known, so nobody is first. A later process does not become
    first when the first one ends.
    """
    if not is_local(store.root):
        yield False
        return
    with _opened(store, name) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _opened(store: Store, name: str) -> IO[str]:
    try:
        return store.folder(name).open("w")
    except OSError as problem:
        raise _unwritable(store, problem) from problem


def _unwritable(store: Store, problem: OSError) -> StoreError:
    return StoreError(
        f"The store {store.root} cannot be written ({why(problem)}); fix the folder's permissions "
        "or the connection, then run the same command again."
    )


def _marker(store: Store, kind: str) -> Path:
    path = store.folder(".ingest", f"{kind}-{uuid.uuid4().hex}.json")
    began = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"host": socket.gethostname(), "process": os.getpid(), "began": began}
    try:
        put(path, json.dumps(about).encode())
    except OSError as problem:
        raise _unwritable(store, problem) from problem
    return path


def _other(store: Store, mine: Path, kinds: tuple[str, ...]) -> Path | None:
    there = store.folder(".ingest").glob("*.json")
    others = (p for p in there if p.name != mine.name and p.name.split("-")[0] in kinds)
    return next(others, None)


def _taken(store: Store, marker: Path) -> str:
    try:
        about = json.loads(marker.read_text())
        who = f"process {about['process']} on {about['host']}, since {about['began']}"
    except (OSError, ValueError, KeyError):
        who = "it ended this moment"
    return (
        f"Another ingest is writing to {store.root} ({who}); wait until it ends, or, if it was "
        f"killed, delete {marker}; then run this command again."
    )


@dataclass(frozen=True)
class Holder:
    """A process that has, or had, a lease."""

    file: Path
    host: str
    process: int
    began: str
    age: float
    """Seconds since the lease was last touched."""
    alive: bool

    def words(self) -> str:
        """The process in words."""
        return f"process {self.process} on {self.host}, since {self.began}"


class Lease:
    """The right to write to one thing, such as a run; a context that gives it back.

    A thread keeps it up. After `lost` is true another process has it, or somebody deleted it, and
    nothing may be written any more.
    """

    def __init__(self, folder: Path, what: str) -> None:
        """Take the lease kept in `folder`; StoreError says who has it, and how to take over.

        `what` is written: "run 'mine'".
        """
        self.folder = folder
        self.what = what
        self.lost = False
        try:
            self._file = self._take()
        except OSError as problem:
            raise StoreError(
                f"{folder} cannot be written ({why(problem)}); fix the folder's permissions or "
                "free space, then run the same command again."
            ) from problem
        self._done = threading.Event()
        threading.Thread(target=self._keep, daemon=True, name="outvoted-lease").start()

    def _take(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        mine = self.folder / f".{uuid.uuid4().hex}{UNFINISHED}"
        began = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            mine.write_text(json.dumps({**_this_process(), "began": began}) + "\n")
            while True:
                now = mine.stat().st_mtime  # of the disk's clock, which every host shares
                number = _newest(self.folder)
                holder = holder_of(self.folder, now)
                if holder is not None and holder.alive:
                    raise StoreError(_held(self.what, holder))
                file = self.folder / f"{number + 1}.json"
                if _made(mine, file):
                    if _newest(self.folder) == number + 1:
                        break
                    file.unlink(missing_ok=True)
        finally:
            mine.unlink(missing_ok=True)
        for other in self.folder.iterdir():
            if other.stem.isdigit() and int(other.stem) <= number:
                other.unlink(missing_ok=True)
        return file

    def _keep(self) -> None:
        while not self._done.wait(BEAT):
            with suppress(OSError):  # a disk that does not answer for a while
                if not self.check():
                    return
                os.utime(self._file)

    def check(self) -> bool:
        """Whether this process still has the lease, by a look at the disk."""
        mine = self._file.exists() and _newest(self.folder) == int(self._file.stem)
        self.lost = self.lost or not mine
        return not self.lost

    def must_hold(self) -> None:
        """StoreError where the lease was lost."""
        if self.lost or not self.check():
            holder = holder_of(self.folder)
            who = f" by {holder.words()}" if holder is not None and holder.alive else ""
            raise StoreError(
                f"This process no longer writes to {self.what}: it was taken over{who}. What was "
                "written before is kept; continue there, or run the same command again."
            )

    def release(self, *, forget: bool = False) -> None:
        """Give the lease back; the next one may be taken at once. `forget`: nothing was written,
        so nothing of it is left, and no empty folder."""
        self._done.set()
        with suppress(OSError):
            if not forget:
                # The number stays, so that it never falls under a process that is just counting.
                self._file.rename(self._file.with_suffix(".free"))
                return
            self._file.unlink()
            for folder in (self.folder, *self.folder.parents):
                folder.rmdir()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def run_lease(store: Store, run: str, to: str = "train") -> Lease:
    """The lease of the process that trains or probes a run (`to`)."""
    return Lease(store.run(run) / "lease" / to, f"run {run!r}")


def holder_of(folder: Path, now: float | None = None) -> Holder | None:
    """Who has the lease kept in `folder`, or had it when its process ended; None where it is free.

    `now`: the present by the disk's clock; by this machine's where it is not given.
    """
    file = folder / f"{_newest(folder)}.json"
    try:
        with file.open(encoding="utf-8") as stream:
            age = (time.time() if now is None else now) - os.fstat(stream.fileno()).st_mtime
            text = stream.read()
    except FileNotFoundError:
        return None
    try:
        about = json.loads(text)
        alive = age < LAPSE
        if about["machine"] and about["machine"] == _this_process()["machine"]:
            alive = _started(about["process"]) == about["started"]
        return Holder(file, about["host"], int(about["process"]), about["began"], age, alive)
    except (ValueError, KeyError, TypeError):  # being written, where files cannot be linked
        return Holder(file, "a host that it does not name", 0, "just now", age, age < LAPSE)


def _made(mine: Path, file: Path) -> bool:
    """Give `mine` a second name; whether no other process was first."""
    try:
        os.link(mine, file)
    except FileExistsError:
        # A network disk may have done it, lost its answer and been asked again.
        return mine.stat().st_nlink > 1
    except OSError:  # a file system without links
        try:
            with file.open("x", encoding="utf-8") as stream:
                stream.write(mine.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    return True


def _newest(folder: Path) -> int:
    """The highest number of a lease in the folder, held or free; 0 where there is none."""
    names = (path.stem for path in folder.glob("*") if path.suffix in (".json", ".free"))
    return max((int(name) for name in names if name.isdigit()), default=0)


def _held(what: str, holder: Holder) -> str:
    return (
        f"{what[0].upper()}{what[1:]} is being written by {holder.words()}. To take over, end that "
        f"process there (kill {holder.process}) and run this command again. If its host is gone, "
        f"the lease ends by itself {LAPSE:.0f} seconds after its last sign of life (it was "
        f"{max(0, holder.age):.0f} seconds ago); or delete {holder.file}."
    )


def _this_process() -> dict[str, Any]:
    """This process, and its machine: boot and process namespace, so that a container is one of its
    own. Empty where the system does not say; then only touches count."""
    machine = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "machine": machine,
        "process": pid,
        "started": _started(pid),
    }


def _started(pid: int) -> int | None:
    """When a process of this machine began, in ticks since boot; None where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
