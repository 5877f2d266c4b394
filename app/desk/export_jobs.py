"""Exports that the desk writes: one at a time a name, in the background, complete or absent.

Everything goes to one folder, and only a name is taken from the page, so that no path that
somebody types reaches the file system elsewhere.
"""

import json
import os
import shlex
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.desk import state
from toolkit.errors import InputError, OutvotedError
from toolkit.export import FORMATS, Policy, export_set
from toolkit.store import Store
from toolkit.store.layout import check_name


def folder(store: Store) -> Path:
    """Where exports go: what `outvoted app --exports` named, else STORE/exports."""
    given = json.loads(os.environ.get(state.SETTINGS, "{}")).get("exports")
    return Path(given) if given else store.folder("exports")


def place(store: Store, name: str) -> Path:
    """The folder of an export of that name. InputError where the name is none, or is taken."""
    name = name.strip()
    if not name:
        raise InputError("The export needs a name; type one, such as curated-1.")
    out = folder(store) / check_name(name, "set")
    if out.exists():
        raise InputError(f"There is an export {name!r} already ({out}); choose another name.")
    return out


def command(store: Store, out: Path | str, policy: Policy, form: str) -> str:
    """What a shell takes to do the same: `outvoted export` with every option that is not usual."""
    usual, words = Policy(), ["outvoted", "export", str(store.root), "--out", str(out)]
    if form != "pickapic":
        words += ["--format", form]
    for option, name in (("labels", "labels"), ("run", "run"), ("where", "where")):
        if (value := getattr(policy, name)) is not None:
            words += [f"--{option}", value]
    if policy.finding != usual.finding:
        words += ["--finding", policy.finding]
    words += [word for text in policy.drop for word in ("--drop", text)]
    words += [word for text in policy.flip for word in ("--flip", text)]
    for option, share in (("--drop-top", policy.drop_top), ("--flip-top", policy.flip_top)):
        words += [option, f"{share:g}"] if share else []
    if policy.reweight:
        words += ["--reweight"]
    if policy.k1 != usual.k1:
        words += ["--k1", f"{policy.k1:g}"]
    if policy.weight is not None:
        words += ["--weight", policy.weight]
    flags = (
        ("--no-verdicts", not policy.verdicts), ("--keep-ties", policy.keep_ties),
        ("--keep-unlabelled", policy.keep_unlabelled), ("--no-pseudonyms", not policy.pseudonyms),
        ("--no-images", not policy.images),
    )  # fmt: skip
    return shlex.join([*words, *(flag for flag, said in flags if said)])


@dataclass
class Job:
    """One export on its way, or how it ended. Written by its thread, read by pages."""

    name: str
    out: Path
    done: int = 0
    total: int = 0
    lines: list[str] = field(default_factory=list)
    """The outcome as sentences; empty until it is there."""
    problem: str = ""
    ended: bool = False


class Jobs:
    """The exports of this server, by the folder they fill; they go on when a page is left."""

    def __init__(self) -> None:
        self._jobs: dict[Path, Job] = {}
        self._lock = threading.Lock()

    def start(self, store: Store, name: str, policy: Policy, form: str) -> Job:
        """Begin to write. InputError where the name is none, taken, or being written."""
        out = place(store, name)
        job = Job(out.name, out)
        with self._lock:
            before = self._jobs.get(out)
            if before is not None and not before.ended:
                raise InputError(f"The export {out.name!r} is being written; choose another name.")
            self._jobs[out] = job
        work = (store, job, policy, form)
        threading.Thread(target=_write, args=work, daemon=True, name=f"export-{name}").start()
        return job

    def all(self) -> list[Job]:
        """Newest first."""
        with self._lock:
            return list(self._jobs.values())[::-1]


def _write(store: Store, job: Job, policy: Policy, form: str) -> None:
    def heard(done: int, total: int) -> None:
        job.done, job.total = done, total

    try:
        job.out.parent.mkdir(parents=True, exist_ok=True)
        said = command(store, job.out, policy, form)
        outcome = export_set(store, job.out, policy, FORMATS[form], command=said, progress=heard)
        job.lines = outcome.lines()
    except OutvotedError as problem:
        job.problem = str(problem)
    except Exception as problem:  # a thread has nobody above it to tell
        job.problem = f"The export ended ({type(problem).__name__}: {problem}); nothing was left."
    finally:
        job.ended = True


def written(store: Store) -> list[dict[str, Any]]:
    """The exports in the folder, newest first: name, path, format, pairs; broken ones left out."""
    found = []
    for about in folder(store).glob("*/curation.json"):
        try:
            record = json.loads(about.read_text(encoding="utf-8"))
            row = {
                "name": about.parent.name,
                "path": about.parent,
                "format": str(record["format"]),
                "pairs": int(record["counts"]["after"]["pairs"]),
                "time": about.stat().st_mtime,
            }
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append(row)
    return sorted(found, key=lambda row: -float(row["time"]))
