"""Labels from an array with one value a pair."""

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np

from toolkit.errors import InputError
from toolkit.labels.maker import LabelMaker, Made, changes_of, write_changes
from toolkit.preference import ALLOWED, is_label
from toolkit.store import Store
from toolkit.store.connection import read_pairs
from toolkit.store.label_sets import ORIGINAL


def labels_of_array(
    store: Store,
    name: str,
    array: Annotated[str, "A .npy file with one label a pair, in the store's order."],
    base: str = ORIGINAL,
) -> Made:
    """Labels from a .npy of shape (pairs,) in the store's order: 1, 0, 0.5, or NaN for no label.

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
    "import", "Labels from a .npy array: 1, 0, 0.5, or NaN for none.", labels_of_array
)
