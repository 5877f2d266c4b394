"""Numbered steps from one format of a store to the next.

Step n turns format n - 1 into n. It may write files under names that format n - 1 does not read,
and must leave every file that it does read as it is: the step counts once store.json says so, in
one rename. A step that is cut off leaves a store of the old format, and can be taken again.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import StoreError
from toolkit.files.atomic import write_text_whole
from toolkit.files.remote import place, why
from toolkit.store.layout import FORMAT_VERSION, Store, described
from toolkit.store.locks import adding

About = dict[str, Any]


def _name_the_store(root: Path, about: About) -> About:  # noqa: ARG001
    """2: a store has an id, so that exports and sidecars say which store they were made from."""
    return {**about, "store_id": uuid.uuid4().hex}


MIGRATIONS: Mapping[int, Callable[[Path, About], About]] = {2: _name_the_store}


def migrate(
    path: str | Path,
    *,
    steps: Mapping[int, Callable[[Path, About], About]] = MIGRATIONS,
    to: int = FORMAT_VERSION,
) -> list[int]:
    """Bring a store to format `to`; the steps that were taken, none where it has it already.

    StoreError where it is no store, newer than `to`, being written to, or where a step fails.
    """
    root = place(path)
    about = described(root)
    if about["format"] > to:
        raise StoreError(
            f"{root} is a store of format {about['format']}, newer than {to}; install the version "
            "of outvoted that wrote it."
        )
    taken: list[int] = []
    with adding(Store(root)):
        for number in range(about["format"] + 1, to + 1):
            try:
                about = {**steps[number](root, about), "format": number}
                write_text_whole(root / "store.json", json.dumps(about, indent=2) + "\n")
            except OSError as problem:
                raise StoreError(
                    f"{root} could not be brought to format {number} ({why(problem)}) and is "
                    f"as it was, of format {number - 1}. Free space or mend the folder, then run "
                    "the same command again."
                ) from problem
            taken.append(number)
    return taken
