"""Saved views: names for links, in a file beside the verdict journal."""

import json
import threading
from pathlib import Path

from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import write_text_whole
from toolkit.store.queue.view import View, view_from_query, view_to_query

_LONGEST = 60
_lock = threading.Lock()


def file_of(journal: Path) -> Path:
    """Where the views of a journal's desk lie."""
    return journal.with_name(journal.stem + "_views.json")


def saved_views(journal: Path) -> dict[str, View]:
    """Every saved view by its name, in the order of saving. StoreError where the file is broken."""
    path = file_of(journal)
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): view_from_query(query) for name, query in found.items()}
    except (ValueError, AttributeError, TypeError, InputError, OSError) as problem:
        raise StoreError(
            f"The saved views in {path} cannot be read ({problem}); mend the file, or move it away "
            "to begin anew."
        ) from problem


def save_view(journal: Path, name: str, view: View) -> None:
    """Keep a view under a name, instead of the one that had it. InputError for an empty name."""
    name = " ".join(name.split())
    if not 0 < len(name) <= _LONGEST:
        raise InputError(f"A view's name has 1 to {_LONGEST} characters; type one.")
    with _lock:
        _write(journal, saved_views(journal) | {name: view})


def forget_view(journal: Path, name: str) -> None:
    """Take a saved view away; nothing happens where there is none of that name."""
    with _lock:
        kept = saved_views(journal)
        if kept.pop(name, None) is not None:
            _write(journal, kept)


def _write(journal: Path, views: dict[str, View]) -> None:
    queries = {name: view_to_query(view) for name, view in views.items()}
    text = json.dumps(queries, indent=2, ensure_ascii=False) + "\n"
    try:
        write_text_whole(file_of(journal), text)
    except OSError as problem:
        raise StoreError(
            f"The view was NOT saved: {file_of(journal)} cannot be written ({problem}); free space "
            "or mend the folder."
        ) from problem
