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
from toolkit.store.label_sets import ORIGINAL, write_label_set


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
    """Add the label set `name`: the labels of `base` with `changes` (of `changes_of`) applied.

    The overlay contains every pair whose label or weight differs from the source's, by pair_id, so
    a set made over another one includes its changes. A label that changes loses the weight that
    the old one had, unless its change has one. The recipe is stored with `base` added. `pairs`:
    how many pairs were decided about, the rows of `changes` by default.
    """
    labels = effective_labels(store, base)
    source = labels if base == ORIGINAL else effective_labels(store, ORIGINAL)
    ids = labels["pair_id"].combine_chunks()
    row = pc.index_in(ids, value_set=changes["pair_id"].combine_chunks())
    decided = row.is_valid().to_numpy(zero_copy_only=False)
    before = values_of(labels["label"])
    after = np.where(decided, values_of(changes["label"].take(row)), before)
    weight = values_of(changes["label_weight"].take(row))
    kept = np.isnan(weight) & ~differs(after, before)
    weight = np.where(decided & ~kept, weight, values_of(labels["label_weight"]))
    other = differs(after, values_of(source["label"]))
    other |= differs(weight, values_of(source["label_weight"]))
    overlay = changes_of(ids, after, weight).filter(pa.array(other))
    write_label_set(store, name, overlay, {"base": base, **recipe})
    changed = int(differs(after, before).sum())
    return Made(name, base, changes.num_rows if pairs is None else pairs, changed, note)


def changes_of(pair_ids: list[str] | pa.Array, labels: Any, weights: Any = None) -> pa.Table:
    """A table of changes: pair_id, label (NaN: no label) and label_weight (NaN: not known)."""
    given = {"label": labels, "label_weight": np.nan if weights is None else weights}
    columns = {"pair_id": pa.array(pair_ids, pa.string())}
    for name, values in given.items():
        values = np.broadcast_to(np.asarray(values, np.float64), len(pair_ids))
        columns[name] = pa.array(values, pa.float64(), from_pandas=True)
    return pa.table(columns)
