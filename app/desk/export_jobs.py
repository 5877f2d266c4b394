"""Exports that the desk writes in the background, complete or not at all.

All go to one folder, and the page gives only a name, so that nothing that somebody types there
reaches another part of the file system.
"""

import json
import os
import shlex
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from app.desk import state
from toolkit.errors import InputError, OutvotedError
from toolkit.export import Policy, export_set
from toolkit.store import Store
from toolkit.store.layout import check_name


def folder(store: Store) -> Path:
    """The folder of all exports: `outvoted app --exports FOLDER`, by default STORE/exports."""
    named = json.loads(os.environ.get(state.SETTINGS, "{}")).get("exports")
    return Path(named) if named else store.folder("exports")


def place(store: Store, name: str) -> Path:
    """The folder of a new export. InputError if the name cannot be used or already exists."""
    name = name.strip()
    if not name:
        raise InputError("The export needs a name; type one, such as curated-1.")
    out = folder(store) / check_name(name, "set")
    if out.exists():
        raise InputError(f"There is already an export {name!r} ({out}); choose another name.")
    return out


def command(store: Store, out: Path | str, policy: Policy, form: str) -> str:
    """The `outvoted export` command that does the same; options with their default are left out."""
    words = ["outvoted", "export", str(store.root), "--out", str(out)]
    words += ["--format", form] if form != "pickapic" else []
    return shlex.join([*words, *policy.words()])


@dataclass
class Job:
    """An export in progress, or its result. Its thread writes it, pages read it."""

    name: str
    out: Path
    done: int = 0
    total: int = 0
    pairs: str = ""
    """`40 of 50 pairs` once the export is complete."""
    problem: str = ""
    ended: bool = False

    def line(self, text: str) -> None:
        """A sentence from the export: pages show the result only."""

    def update(self, task: str, done: int, total: int | None = None, note: str = "") -> None:
        """Rows that were written, as of `toolkit.progress`."""
        del task, note
        self.done, self.total = done, total or 0


class Jobs:
    """The exports of this server, by folder; they continue when a page is left."""

    def __init__(self) -> None:
        self._jobs: dict[Path, Job] = {}
        self._lock = threading.Lock()

    def start(self, store: Store, name: str, policy: Policy, form: str) -> Job:
        """Start to write. InputError if the name cannot be used, or already exists."""
        out = place(store, name)
        job = Job(out.name, out)
        with self._lock:
            previous = self._jobs.get(out)
            if previous is not None and not previous.ended:
                raise InputError(f"The export {out.name!r} is being written; choose another name.")
            self._jobs[out] = job
        work = (store, job, policy, form)
        threading.Thread(target=_write, args=work, daemon=True, name=f"export-{name}").start()
        return job

    def all(self) -> list[Job]:
        """Newest first."""
        with self._lock:
            return list(self._jobs.values())[::-1]


@st.cache_resource(show_spinner=False)
def jobs() -> Jobs:
    """The exports of this server, shared by its sessions."""
    return Jobs()


def _write(store: Store, job: Job, policy: Policy, form: str) -> None:
    try:
        job.out.parent.mkdir(parents=True, exist_ok=True)
        text = command(store, job.out, policy, form)
        outcome = export_set(store, job.out, policy, form, command=text, progress=job)
        before, after = (outcome.counts[when]["pairs"] for when in ("before", "after"))
        job.pairs = f"{after:,} of {before:,} pairs"
    except OutvotedError as problem:
        job.problem = str(problem)
    except Exception as problem:  # nothing above a thread would report it
        job.problem = f"The export failed ({type(problem).__name__}: {problem}); nothing was left."
    finally:
        job.ended = True


def written(store: Store) -> list[dict[str, Any]]:
    """The exports in the folder, newest first: name, path, format, pairs, time; broken ones are
    left out."""
    rows = []
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
        rows.append(row)
    return sorted(rows, key=lambda row: -float(row["time"]))
