"""Labels that are stated pair by pair: by curators' published verdicts, or by an array."""

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np

from toolkit.errors import InputError
from toolkit.labels.maker import LabelMaker, Made, changes_of, write_changes
from toolkit.preference import ALLOWED, is_label
from toolkit.store import Store
from toolkit.store.connection import effective_labels, read_pairs
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.verdicts import PREFERENCE, agrees, resolve


def labels_of_verdicts(store: Store, name: str, base: str = ORIGINAL) -> Made:
    """A preference or tie becomes that label, unless the base's leans there; drop becomes no label.

    Unsure, and curators who are split, leave the base's label. The recipe identifies the verdicts
    that were used, so a set made later from more verdicts needs another name. InputError without a
    verdict that decides.
    """
    verdicts = [row for row in resolve(store).to_pylist() if row["choice"] != "unsure"]
    if not verdicts:
        raise InputError(
            f"{store.root} has no published verdict that decides a pair; give some with "
            f"`outvoted app {store.root}`."
        )
    ids = "\n".join(sorted(row["verdict_id"] for row in verdicts))
    used = {"count": len(verdicts), "sha256": hashlib.sha256(ids.encode()).hexdigest()}
    labels = effective_labels(store, base)
    before = dict(zip(labels["pair_id"].to_pylist(), labels["label"].to_pylist(), strict=True))
    changes = changes_of(
        [row["pair_id"] for row in verdicts],
        [
            label
            if agrees(row["choice"], label := before.get(row["pair_id"]))
            else PREFERENCE.get(row["choice"], np.nan)
            for row in verdicts
        ],
    )
    return write_changes(store, name, base, changes, {"kind": "curated", "verdicts": used})


CURATED = LabelMaker(
    "curated",
    "The published verdicts as labels; a drop is no label.",
    labels_of_verdicts,
    "curated",
)


def labels_of_array(
    store: Store,
    name: str,
    array: Annotated[str, "A .npy file with one label a pair, in the store's order."],
    base: str = ORIGINAL,
) -> Made:
    """Labels from a .npy of shape (pairs,) in the store's order: 0 to 1, or NaN for no label.

    InputError where the file is not such an array.
    """
    path = Path(array)
    try:
        data = path.read_bytes()
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise InputError(
            f"{path} cannot be read as a .npy array ({str(problem).splitlines()[0]}); name one."
        ) from problem
    ids = read_pairs(store, ["pair_id"])["pair_id"].combine_chunks()
    if labels.shape != (len(ids),) or labels.dtype.kind not in "iufb":
        raise InputError(
            f"{path} contains {labels.dtype} of shape {labels.shape}, and the store has "
            f"{len(ids):,} pairs; give one number a pair, in the store's order."
        )
    wrong = np.flatnonzero(~is_label(labels))
    if len(wrong):
        raise InputError(
            f"{path} contains {labels[wrong[0]]:g} in row {wrong[0]:,}; a label is {ALLOWED}, or "
            "NaN for none."
        )
    recipe = {"kind": "imported", "sha256": hashlib.sha256(data).hexdigest()}
    return write_changes(store, name, base, changes_of(ids, labels), recipe)


IMPORTED = LabelMaker(
    "import", "Labels from a .npy array: 0 to 1, or NaN for none.", labels_of_array
)
