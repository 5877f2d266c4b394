"""Label sets: named overlays of labels over the pairs, each with the recipe that made it.

An overlay contains the pairs whose label it changes and no others. `original` is the set without an
overlay: the source's labels. An axis (alignment, coherence ...) is a set too: it contains the
labels that sources gave on that axis, grows with every ingest, and leaves all other pairs
unlabelled. The recipe is written last: a set without one is incomplete. The overlay's file has the
recipe's hash.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import StoreError
from toolkit.files.atomic import json_text, parts, read_json, write_json, write_whole
from toolkit.files.remote import readable
from toolkit.schema import LABEL, WEIGHT, column, conform
from toolkit.store.layout import Store, check_name

ORIGINAL = "original"
_AGAIN = "make it again by the command that made it"
_RECIPE = b"outvoted.recipe"
"""Where an overlay's file has the sha256 of its recipe, so that the two belong together."""

LABELS = pa.schema(
    [
        column("pair_id", pa.string(), "the pair whose label differs in this set", nullable=False),
        column("label", pa.float64(), LABEL),
        column("label_weight", pa.float64(), WEIGHT),
    ]
)


def label_set_path(store: Store, name: str) -> Path:
    """The overlay's file (an axis has none). StoreError, naming the store's sets, where there is no
    such set."""
    path = store.folder("labels", f"{check_name(name, 'label set')}.parquet")
    if name not in label_sets(store):
        raise StoreError(
            f"The store has no label set {name!r} (sets: {', '.join(label_sets(store))}); name one "
            f"of them, or make it: `outvoted flip {store.root} --name {name}`."
        )
    if path.exists():
        recipe = store.folder("labels", f"{name}.json").read_bytes()
        try:
            belongs = (pq.read_schema(readable(path)).metadata or {}).get(_RECIPE)
        except (pa.ArrowException, OSError) as problem:
            why = str(problem).splitlines()[0]
            raise StoreError(f"{path} cannot be read ({why}); {_AGAIN}.") from problem
        if belongs not in (None, _sha256(recipe)):  # None: of an earlier version
            raise StoreError(f"{path} was made by another recipe than its JSON names; {_AGAIN}.")
    return path


def label_set_files(store: Store, name: str) -> list[Path]:
    """The Parquet files that a set's labels are read from, beside the pairs. StoreError where there
    is no such set."""
    if name == ORIGINAL:
        return []
    path = label_set_path(store, name)
    return [path] if axis_of(store, name) is None else parts(store.folder("axes"))


def label_sets(store: Store) -> list[str]:
    """`original` first, then the overlays by name."""
    return [ORIGINAL, *sorted(p.stem for p in store.folder("labels").glob("*.json"))]


def write_label_set(store: Store, name: str, overlay: pa.Table, recipe: dict[str, Any]) -> None:
    """Add a set. `overlay`: pair_id, label of the changed pairs; `recipe`: how it was made.

    Writing the same recipe again changes nothing. StoreError where a set of that name was made by
    another recipe: sets are never overwritten, since runs and findings name them.
    """
    check_name(name, "label set")
    about = store.folder("labels", f"{name}.json")
    if name == ORIGINAL:
        raise StoreError(f"{ORIGINAL!r} is the source's labels; give the set another name.")
    if about.exists():
        try:
            made = label_set_recipe(store, name)
        except StoreError:  # damaged, so it can be made again
            made = None
        if made is not None and made != recipe:
            raise StoreError(
                f"The store has a label set {name!r} already, made another way (see {about}); "
                "choose another --name."
            )
        if made is not None and _is_whole(store, name):
            return
    table = conform(overlay, LABELS).replace_schema_metadata(
        {_RECIPE: _sha256(json_text(recipe).encode())}
    )
    write_whole(store.folder("labels", f"{name}.parquet"), table)
    write_json(about, recipe)
    if label_set_recipe(store, name) != recipe:
        raise StoreError(
            f"Another process made a label set {name!r} at the same moment; choose another --name."
        )


def _is_whole(store: Store, name: str) -> bool:
    try:
        pq.read_table(
            readable(store.folder("labels", f"{name}.parquet")), page_checksum_verification=True
        )
    except (pa.ArrowException, OSError):
        return False
    return True


def _sha256(recipe: bytes) -> bytes:
    return hashlib.sha256(recipe).hexdigest().encode()


def label_set_recipe(store: Store, name: str) -> dict[str, Any]:
    """How the set was made; {"kind": "original"} for the source's own labels."""
    if name == ORIGINAL:
        return {"kind": ORIGINAL}
    label_set_path(store, name)
    return dict(read_json(store.folder("labels", f"{name}.json"), _AGAIN, kind=str))


def axis_of(store: Store, name: str) -> str | None:
    """The axis that a set is, or None. StoreError where there is no such set."""
    return label_set_recipe(store, name).get("axis")


def name_axes(store: Store, axes: Iterable[str]) -> None:
    """Make each of these axes a label set. StoreError where its name is taken."""
    for axis in axes:
        check_name(axis, "label set")
        about = store.folder("labels", f"{axis}.json")
        if axis != ORIGINAL and not about.exists():
            write_json(about, {"kind": "axis", "axis": axis})
        elif axis == ORIGINAL or axis_of(store, axis) is None:
            raise StoreError(
                f"The source judges an axis {axis!r}, and the store has a label set of that name "
                "already; rename the source's axis, or ingest it into another store."
            )


def planted_flips(store: Store, name: str) -> list[str] | None:
    """pair_ids whose label a planted set flipped, sorted; None where the set planted none."""
    recipe = label_set_recipe(store, name)
    return list(recipe["flipped"]) if recipe.get("kind") == "planted" else None


def planted_beneath(store: Store, name: str) -> str | None:
    """The set of planted flips that a set is, or was made over; None where there is none."""
    recipe = label_set_recipe(store, name)
    while recipe.get("kind") != "planted":
        if recipe.get("base") in (None, name):
            return None
        name = str(recipe["base"])
        recipe = label_set_recipe(store, name)
    return name
