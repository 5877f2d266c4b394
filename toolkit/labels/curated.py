"""Published verdicts as a label set."""

import hashlib

import numpy as np

from toolkit.errors import InputError
from toolkit.labels.maker import LabelMaker, Made, changes_of, write_changes
from toolkit.store import Store
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.verdicts import PREFERENCE, resolve


def labels_of_verdicts(store: Store, name: str, base: str = ORIGINAL) -> Made:
    """A preference or tie becomes that label; drop becomes no label.

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
    changes = changes_of(
        [row["pair_id"] for row in verdicts],
        [PREFERENCE.get(row["choice"], np.nan) for row in verdicts],
    )
    return write_changes(store, name, base, changes, {"kind": "curated", "verdicts": used})


CURATED = LabelMaker(
    "curated",
    "The published verdicts as labels; a drop is no label.",
    labels_of_verdicts,
    "curated",
)
