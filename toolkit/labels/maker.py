"""What every label maker shares: its entry in the registry, and the one writer of overlays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.options import check_options
from toolkit.preference import differs, values_of
from toolkit.store import Store
from toolkit.store.connection import effective_labels
from toolkit.store.label_sets import write_label_set


@dataclass(frozen=True)
class Made:
    """A new label set."""

    name: str
    base: str
    """The label set that it was made over."""
    pairs: int
    """Pairs that the maker decided about."""
    changed: int
    """Labels that differ from the base's."""
    note: str = ""
    """What else to say, such as the seed."""

    def line(self) -> str:
        """The result as a sentence."""
        note = f" ({self.note})" if self.note else ""
        return (
            f"Label set {self.name}: {self.changed:,} of {self.pairs:,} labels differ from "
            f"{self.base}{note}."
        )


@dataclass(frozen=True)
class LabelMaker:
    """An entry of LABEL_MAKERS.

    `make(store, name, [arguments], base, *, options)` writes the set. Its further parameters are
    annotated as `toolkit.options` says; the command line and its help are generated from them.
    """

    name: str
    """The word after `outvoted labels`."""
    summary: str
    make: Callable[..., Made]
    default_name: str | None = None
    """Name of the set where none is given; None: it must be given."""
    report: Callable[..., list[str]] | None = None
    """`report(store, base, **options)` -> sentences to print before the set is made."""

    def __call__(self, store: Store, name: str, *arguments: Any, **options: Any) -> Made:
        """Make the set. InputError for an option that is not allowed."""
        check_options(self.make, options)
        return self.make(store, name, *arguments, **options)


def write_changes(
    store: Store,
    name: str,
    base: str,
    changes: pa.Table,
    recipe: dict[str, Any],
    *,
    pairs: int | None = None,
    note: str = "",
) -> Made:
    """Add the label set `name`: the labels of `base` with `changes` (pair_id, label) applied.

    The overlay contains every pair whose label differs from the source's, by pair_id, so a set
    made over another one includes its changes. The recipe is stored with `base` added. `pairs`:
    how many pairs were decided about, the rows of `changes` by default.
    """
    labels = effective_labels(store, base)
    ids = labels["pair_id"].combine_chunks()
    row = pc.index_in(ids, value_set=changes["pair_id"].combine_chunks())
    before, original = values_of(labels["label"]), values_of(labels["original_label"])
    after = np.where(
        row.is_valid().to_numpy(zero_copy_only=False),
        values_of(changes["label"].take(row)),
        before,
    )
    overlay = pa.table(
        {"pair_id": ids, "label": pa.array(after, pa.float32(), from_pandas=True)}
    ).filter(pa.array(differs(after, original)))
    write_label_set(store, name, overlay, {"base": base, **recipe})
    changed = int(differs(after, before).sum())
    return Made(name, base, changes.num_rows if pairs is None else pairs, changed, note)


def changes_of(pair_ids: list[str] | pa.Array, labels: Any) -> pa.Table:
    """A table of changes from ids and labels (NaN: no label)."""
    label = pa.array(np.asarray(labels, np.float64), pa.float32(), from_pandas=True)
    return pa.table({"pair_id": pa.array(pair_ids, pa.string()), "label": label})
