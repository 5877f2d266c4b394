"""Saved views: views with a name, in a file beside the verdict journal."""

import json
import threading
from pathlib import Path

from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import write_text_whole
from toolkit.store.queue.views import View, view_from_query, view_to_query

_LONGEST = 60
_lock = threading.Lock()


def file_of(journal: Path) -> Path:
    """The file of the views saved beside a journal."""
    return journal.with_name(journal.stem + "_views.json")


def saved_views(journal: Path) -> dict[str, View]:
    """Saved views by name, in the order of saving. StoreError if the file is broken."""
    path = file_of(journal)
    if not path.exists():
        return {}
    try:
        queries = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): view_from_query(query) for name, query in queries.items()}
    except (ValueError, AttributeError, TypeError, InputError, OSError) as problem:
        raise StoreError(
            f"The saved views in {path} cannot be read ({problem}); fix the file, or move it away "
            "to start without saved views."
        ) from problem


def save_view(journal: Path, name: str, view: View) -> None:
    """Save a view under a name, replacing one of that name. InputError for an empty name."""
    name = " ".join(name.split())
    if not 0 < len(name) <= _LONGEST:
        raise InputError(f"The name of a view needs 1 to {_LONGEST} characters; type one.")
    with _lock:
        _write(journal, saved_views(journal) | {name: view})


def delete_view(journal: Path, name: str) -> None:
    """Delete a saved view; nothing happens if there is none of that name."""
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
            "or fix the folder."
        ) from problem
