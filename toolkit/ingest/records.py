"""What a source hands to the writer: rows, images and the count of what became of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from toolkit.errors import InputError

SPLITS = ("train", "validation", "test")

LABELS = (None, 0.0, 0.5, 1.0)
"""What a row's label may be; None: nobody said."""


@dataclass(frozen=True)
class Reference:
    """Where an encoded image lies: a file of its own, or a cell of a Parquet file."""

    file: str
    """Absolute path."""
    row: int | None = None
    """Row in that file; None where the file is the image."""
    column: str | None = None


@dataclass(frozen=True)
class SourceImage:
    """One side of a pair. Without a uid the image is named by the sha256 of its bytes."""

    uid: str | None
    data: bytes | Reference | None = None
    """None: the source has names only, and the pair comes in without this image."""


@dataclass(frozen=True)
class Vote:
    """One person's choice: 1 for image_0, 0 for image_1, .5 for a tie."""

    choice: float
    annotator: str | None = None
    time: datetime | None = None


@dataclass(frozen=True)
class SourceRow:
    """One judged pair as a source states it, images in the source's order."""

    prompt: str | None
    image_0: SourceImage
    image_1: SourceImage
    label: float | None
    """1: image_0 preferred, 0: image_1, .5: tie, None: nobody said; anything else is a fault."""
    split: str | None = None
    annotator: str | None = None
    time: datetime | None = None
    """When the vote was given; without a time zone it is read as UTC."""
    votes: tuple[Vote, ...] = ()
    """Further votes on the pair, where the source has more than the one of `annotator`."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The source's own columns, without the src_ that the store puts before them."""
    distinguishing: tuple[str, ...] = ()
    """What tells this row from others on the same prompt and images (ranking id, annotator)."""
    source_file: str | None = None
    source_row: int | None = None
    problem: str | None = None
    """Why the source itself cannot vouch for the row; such a row goes to the quarantine."""


@dataclass
class Summary:
    """What became of the rows that were read. read = kept + duplicate + quarantined."""

    read: int = 0
    kept: int = 0
    tied: int = 0
    """Of the kept: label .5."""
    unlabelled: int = 0
    """Of the kept: no label."""
    duplicate: int = 0
    quarantined: int = 0
    images: int = 0
    """Images that were new to the store."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why rows were quarantined, details in brackets left off."""
    notes: list[str] = field(default_factory=list)
    """Sentences about what the source left out before it made rows."""

    def brought_meanwhile(self, labels: Sequence[float | None]) -> None:
        """Kept pairs of these labels turn out to be duplicates: another ingest was faster."""
        self.kept -= len(labels)
        self.duplicate += len(labels)
        self.tied -= sum(label == 0.5 for label in labels)
        self.unlabelled -= sum(label is None for label in labels)

    def lines(self) -> list[str]:
        """The summary as a person reads it, one fact a line."""
        counts = (
            f"read {self.read:,}, kept {self.kept:,} (tied {self.tied:,}, unlabelled "
            f"{self.unlabelled:,}), duplicate {self.duplicate:,}, quarantined "
            f"{self.quarantined:,}; new images {self.images:,}"
        )
        reasons = [f"quarantined {n:,}: {why}" for why, n in self.reasons.most_common()]
        return [counts, *reasons, *self.notes]


def fault(row: SourceRow) -> str | None:
    """What is wrong with the row itself (its images are not looked at), or None."""
    if row.problem:
        return row.problem
    if empty_prompt(row.prompt):
        return "the prompt is empty"
    for slot, image in enumerate((row.image_0, row.image_1)):
        if image.uid == "" or (image.uid is None and not isinstance(image.data, bytes)):
            return f"the uid of image_{slot} is empty"
    if row.label not in LABELS:
        return f"the label is none of 1, 0, 0.5 (it is {row.label})"
    return None


def empty_prompt(prompt: str | None) -> bool:
    """Whether there is no text but space in it."""
    return prompt is None or not prompt.strip()


def check_split(split: str | None) -> None:
    """InputError where a split was named that no reader of the export would look for."""
    if split is not None and split not in SPLITS:
        raise InputError(
            f"--split is {split!r}; it must be {', '.join(SPLITS[:2])} or {SPLITS[2]}."
        )


def utc(value: object) -> datetime | None:
    """A time, or an ISO text of one, in UTC; without a zone it is read as UTC. Else None."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
