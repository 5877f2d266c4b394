"""Counts of what an ingest did with the rows that it read."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from toolkit.preference import is_graded, is_tie, values_of


@dataclass
class Summary:
    """Counts of the rows that were read. read = kept + duplicate + quarantined."""

    read: int = 0
    kept: int = 0
    tied: int = 0
    """Of the kept: label .5."""
    graded: int = 0
    """Of the kept: a label between 0 and 1 that is no tie."""
    unlabelled: int = 0
    """Of the kept: no label."""
    duplicate: int = 0
    quarantined: int = 0
    completed: set[str] = field(default_factory=set)
    """pair_ids of pairs in the store that got a split or a label on an axis."""
    images: int = 0
    """Images that were new to the store."""
    unread_images: int = 0
    """Images beside pairs, such as the one that both sides edit, that could not be read."""
    axes: Counter[str] = field(default_factory=Counter)
    """New labels on single axes."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why rows were quarantined, without the details in brackets."""
    notes: list[str] = field(default_factory=list)
    """Sentences about what the source left out before it made rows."""

    def quarantine(self, reason: str) -> None:
        """Count a row that is set aside."""
        self.quarantined += 1
        self.reasons[reason.split(" (")[0]] += 1

    def count_kept(self, labels: pa.ChunkedArray | pa.Array, sign: int = 1) -> None:
        """Count kept pairs with these labels; with `sign` -1 they are kept no longer."""
        label = values_of(labels)
        self.kept += sign * len(label)
        self.tied += sign * int(is_tie(label).sum())
        self.graded += sign * int(is_graded(label).sum())
        self.unlabelled += sign * int(np.isnan(label).sum())

    def count_as_duplicates(self, labels: pa.ChunkedArray | pa.Array) -> None:
        """Kept pairs with these labels are duplicates after all: another ingest was faster."""
        self.count_kept(labels, -1)
        self.duplicate += len(labels)

    def lines(self) -> list[str]:
        """The summary as a person reads it, one fact a line."""
        graded = f"graded {self.graded:,}, " if self.graded else ""
        counts = (
            f"read {self.read:,}, kept {self.kept:,} (tied {self.tied:,}, {graded}unlabelled "
            f"{self.unlabelled:,}), duplicate {self.duplicate:,}, quarantined "
            f"{self.quarantined:,}; new images {self.images:,}"
        )
        more = []
        if self.axes:
            axes = ", ".join(f"{axis} {count:,}" for axis, count in self.axes.items())
            more.append(f"labels on axes, each a label set: {axes}")
        if self.completed:
            more.append(
                f"{len(self.completed):,} pairs in the store got a split or an axis they lacked"
            )
        if self.unread_images:
            more.append(f"{self.unread_images:,} images beside pairs could not be read")
        reasons = [f"quarantined {n:,}: {why}" for why, n in self.reasons.most_common()]
        return [counts, *more, *reasons, *self.notes]
