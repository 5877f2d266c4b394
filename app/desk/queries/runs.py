"""Runs as they stand: read anew at every look, except what costs more than a small file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import streamlit as st
import yaml

from app.desk.image_cache import Picture, shrunk
from app.desk.queries import shelf
from app.desk.queries.connection import BY_ADDRESS
from toolkit.errors import InputError, StoreError
from toolkit.store import Store
from toolkit.store import run_log as watching
from toolkit.store.label_sets import ORIGINAL, planted_flips
from toolkit.store.run_log import Status, Watched
from toolkit.store.runs import run_about

_SIDE = 256
"""Pixels of a sample at most, on the page."""


@dataclass(frozen=True)
class Looked:
    """One run at one look."""

    watched: Watched
    status: Status


def look(store: Store, run: str) -> Looked | None:
    """The run as it is now; None where it vanished or its run.json is being made."""
    try:
        watched = watching.watch(store, run)
    except (StoreError, ValueError):
        return None
    return Looked(watched, watching.status(watched, _log_every(store, run)))


def newest_first(store: Store) -> list[str]:
    """Runs by when they began, the newest first; those that do not say come last."""
    begun = {}
    for run in store.runs():
        found = look(store, run)
        begun[run] = str(found.watched.about.get("started", "")) if found else ""
    return sorted(begun, key=lambda run: (begun[run], run), reverse=True)


def _log_every(store: Store, run: str) -> int | None:
    recipe = store.run(run) / "recipe.yaml"
    try:
        return _every(recipe, recipe.stat().st_mtime_ns)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=BY_ADDRESS)
def _every(recipe: Path, changed: int) -> int | None:  # noqa: ARG001
    told = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    every = told.get("log_every") if isinstance(told, dict) else None
    return every if isinstance(every, int) else None


def ell_table(store: Store, run: str) -> pa.Table | None:
    """Of `watching.ell_by_timestep`, read again only when a part was added."""
    stamp = shelf.files_stamp(store.run(run), "trajectory/rank-*/part-*.parquet")
    return _ell_table(store.root, run, stamp) if stamp else None


@st.cache_data(show_spinner=False, max_entries=16, hash_funcs=BY_ADDRESS)
def _ell_table(root: Path, run: str, stamp: Any) -> pa.Table | None:  # noqa: ARG001
    store = Store(root)
    about = run_about(store, run)
    try:
        flipped = planted_flips(store, str(about.get("labels") or ORIGINAL))
    except StoreError:  # the set was made elsewhere and did not travel
        flipped = None
    return watching.ell_by_timestep(store, run, flipped)


def sample(store: Store, run: str, step: int, number: int) -> Picture:
    """An image that the run drew, or why it cannot be shown."""
    data = watching.sample_image(store, run, step, number)
    if data is None:
        return Picture(problem="not drawn yet")
    try:
        return shrunk(data, _SIDE)
    except InputError:
        return Picture(problem="still being written")
