"""The majority of the label and further voices as a label set."""

from pathlib import Path

import pyarrow as pa

from analysis.detectors.agreement import majority
from toolkit.errors import InputError
from toolkit.store import Store
from toolkit.store.connection import effective_labels
from toolkit.store.label_sets import ORIGINAL, write_label_set


def vote_in_store(
    store: Store, ballots: pa.Table, *, name: str, base: str = ORIGINAL, source: str | Path = ""
) -> tuple[int, int]:
    """Add the label set in which every label of `base` is outvoted where the voices outvote it.

    Returns how many labels change and how many pairs have a voice. The set is an overlay on the
    original labels, so it carries what `base` changes too. InputError where no voice is on a pair
    of the store.
    """
    labels = effective_labels(store, base)
    known = set(labels["pair_id"].to_pylist())
    heard = known & set(ballots["pair_id"].to_pylist())
    if not heard:
        raise InputError(
            f"None of the {ballots.num_rows:,} ballots is on a pair of {store.root}; their column "
            "pair_id must hold the store's ids."
        )
    changed = majority(labels, ballots)
    voted = dict(zip(changed["pair_id"].to_pylist(), changed["label"].to_pylist(), strict=True))
    rows = [
        {"pair_id": row["pair_id"], "label": voted.get(row["pair_id"], row["label"])}
        for row in labels.to_pylist()
        if row["pair_id"] in voted or row["label"] != row["original_label"]
    ]
    schema = pa.schema([("pair_id", pa.string()), ("label", pa.float32())])
    voices = sorted({str(voice) for voice in ballots["voice"].to_pylist()})
    recipe = {
        "kind": "majority",
        "base": base,
        "voices": voices,
        "ballots": ballots.num_rows,
        "source": str(source),
        "changed": sorted(voted),
    }
    write_label_set(store, name, pa.Table.from_pylist(rows, schema=schema), recipe)
    return len(voted), len(heard)
