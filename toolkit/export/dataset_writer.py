"""What every way out shares: a plan, a folder that is complete or absent, its record and card.

    OUT/...             the set, as its format lays it out
    OUT/curation.json   policy, decisions, balance, hashes
    OUT/README.md       dataset card

The same export of the same store is the same bytes.

Parquet files of one split: written a row group at a time, closed when they are full.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import InputError
from toolkit.export.decisions import Plan, make_plan
from toolkit.export.policy import Policy
from toolkit.export.provenance import card_text, counts, curation, needs_card_library, sha256_of
from toolkit.export.table import Further, exported_tables, further_columns
from toolkit.files.atomic import UNFINISHED, sync_folder
from toolkit.files.remote import is_local, place
from toolkit.store import Store
from toolkit.store.images import absent_images
from toolkit.store.pseudonyms import renamer

IMAGE_GROUP, IMAGE_SHARD = 100, 1000
"""Two images are read by decoding one group: at 100 rows in 3 ms, at 3,000 in 162 ms."""
GROUP, SHARD = 20_000, 100_000
"""The same where no column holds images."""


@cache
def split_name(name: str | None) -> str:
    """A split as it can stand in a file name; train where the source names none."""
    return re.sub(r"\W", "_", name) if name else "train"


def shard_names(split: str, size: int, shard_rows: int, suffix: str) -> list[str]:
    """data/SPLIT-00000-of-00003SUFFIX and so on for `size` rows."""
    count = -(-size // shard_rows)
    return [f"data/{split}-{n:05d}-of-{count:05d}{suffix}" for n in range(count)]


def is_image(field: pa.Field) -> bool:
    """Whether a column holds encoded images, alone or as `datasets`' {bytes, path}."""
    kind = field.type
    return bool(pa.types.is_binary(kind) or pa.types.is_struct(kind))


class Shards:
    """The files of one split, one open at a time."""

    def __init__(
        self, aside: Path, split: str, size: int, into: pa.Schema, shard_rows: int | None = None
    ):
        images = any(is_image(field) for field in into)
        self._group = IMAGE_GROUP if images else GROUP
        self._limit = shard_rows or (IMAGE_SHARD if images else SHARD)
        self._paths = [aside / name for name in shard_names(split, size, self._limit, ".parquet")]
        self._aside, self._into = aside, into
        self._held: list[pa.Table] = []
        self._facts: dict[str, Any] = {}
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        (aside / "data").mkdir(exist_ok=True)

    def add(self, table: pa.Table) -> None:
        """Append rows; a row group is written as soon as it is full."""
        while table.num_rows:
            held = sum(t.num_rows for t in self._held)
            room = min(self._group - held, self._limit - self._rows)
            self._held.append(table.slice(0, room))
            self._rows += self._held[-1].num_rows
            table = table.slice(room)
            if self._rows == self._limit:
                self._close()
            elif sum(t.num_rows for t in self._held) == self._group:
                self._write_group()

    def end(self) -> dict[str, Any]:
        """Close the last file; path: rows and sha256 of each."""
        if self._rows:
            self._close()
        return self._facts

    def _write_group(self) -> None:
        if self._writer is None:
            # Encoded images do not shrink any further; the other columns do.
            packing = {
                name: "NONE" if is_image(self._into.field(name.split(".")[0])) else "ZSTD"
                for name in _leaves(self._into)
            }
            path = self._paths[len(self._facts)]
            self._writer = pq.ParquetWriter(path, self._into, compression=packing)
        if self._held:
            table = pa.concat_tables(self._held)
            self._writer.write_table(table, row_group_size=self._group)
            self._held = []

    def _close(self) -> None:
        self._write_group()
        assert self._writer is not None
        self._writer.close()
        path = self._paths[len(self._facts)]
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        name = path.relative_to(self._aside).as_posix()
        self._facts[name] = {"rows": self._rows, "sha256": sha256_of(path)}
        self._writer, self._rows = None, 0


def _leaves(schema: pa.Schema) -> list[str]:
    """Names of the physical columns: a struct's fields by their paths."""
    found = []
    for field in schema:
        if pa.types.is_struct(field.type):
            found += [f"{field.name}.{inner.name}" for inner in field.type]
        else:
            found.append(field.name)
    return found


Progress = Callable[[int, int], None]
"""Hears (rows done, rows in all)."""


@dataclass(frozen=True)
class Job:
    """One export at work: what is decided, and the folder that is being filled."""

    store: Store
    plan: Plan
    policy: Policy
    aside: Path
    further: Further
    """Columns of the source that follow behind ours."""
    shard_rows: int | None = None
    progress: Progress | None = None

    @property
    def splits(self) -> list[str]:
        """The split of every row, as a file name can hold it."""
        return [split_name(name) for name in self.plan.rows["split"].to_pylist()]

    def tables(self, into: pa.Schema) -> Iterator[tuple[str, pa.Table]]:
        """(split, rows) of the kept pairs in the store's order, a few at a time."""
        total, done = int(self.plan.kept.sum()), 0
        splits = self.splits
        rows = exported_tables(self.store, self.plan, self.policy, splits, into, self.further)
        for split, table in rows:
            yield split, table
            done += table.num_rows
            if self.progress:
                self.progress(done, total)


@dataclass(frozen=True)
class Format:
    """A way out: which columns its card lists, and how it fills the folder."""

    name: str
    columns: Callable[[Policy], pa.Schema]
    write: Callable[[Job], dict[str, Any]]
    """Returns path (or folder) to {rows, sha256} of what it wrote."""
    images: Literal["by option", "always", "never"] = "by option"
    undecided: bool = True
    """Whether it can say that a pair is tied or has no label."""
    further: bool = False
    """Whether the source's further columns follow behind its own."""


@dataclass(frozen=True)
class Outcome:
    """What an export made, or would make."""

    out: Path | None
    """None for a preview."""
    counts: dict[str, Any]
    """As in curation.json."""

    def lines(self) -> list[str]:
        """The outcome as a person reads it."""
        before, after = self.counts["before"], self.counts["after"]
        first = (
            f"pairs {before['pairs']:,} -> {after['pairs']:,}: flipped "
            f"{self.counts['flipped']:,}, tied {self.counts['tied']:,}, dropped "
            f"{self.counts['dropped']:,}, reweighted {self.counts['reweighted']:,}"
        )
        reasons = [f"{n:,} {why}" for why, n in self.counts["reasons"].items()]
        return [first, *warnings_of(self.counts), *reasons]


def warnings_of(counts: dict[str, Any]) -> list[str]:
    """What nobody should overlook in an export, in sentences."""
    if not counts["planted"]:
        return []
    return [
        f"Warning: {counts['planted']:,} of these labels are wrong on purpose, planted flips of "
        f"the label set {counts['labels']}; with --labels {counts['without_planted']} yours leave."
    ]


def preview(store: Store, policy: Policy) -> Outcome:
    """What an export under the policy would do; writes nothing."""
    return Outcome(None, counts(make_plan(store, policy)))


def export_set(
    store: Store,
    out: str | Path,
    policy: Policy,
    form: Format,
    *,
    command: str | None = None,
    progress: Progress | None = None,
    shard_rows: int | None = None,
) -> Outcome:
    """Write the set to the new folder `out`.

    `command` is what curation.json shows as having been typed. InputError where `out` exists, the
    policy contradicts itself, the format or leaves nothing, an image cannot be had, or the disk
    refuses; nothing is left at `out` then.
    """
    out = place(out)
    if not is_local(out):
        raise InputError(
            f"{out} is no folder of this machine; export to one with --out, then copy it there."
        )
    if out.exists():
        raise InputError(f"{out} exists already; name a new folder with --out.")
    policy = _fitting(policy, form)
    needs_card_library()
    plan = make_plan(store, policy)
    _check(store, plan, policy)
    aside = out.absolute().with_name(f".{out.name}.{os.getpid()}{UNFINISHED}")
    try:
        aside.mkdir(parents=True)
        further = Further()
        if form.further:
            rename = renamer(store) if policy.pseudonyms else None
            further = further_columns(
                plan.files, form.columns(policy).names, plan.rows["annotator"], rename
            )
        outputs = form.write(Job(store, plan, policy, aside, further, shard_rows, progress))
        record = {"format": form.name} | curation(
            store, plan, policy, command=command, outputs=outputs
        )
        columns = pa.schema([*form.columns(policy), *further.schema])
        write_text(aside / "curation.json", json.dumps(record, indent=2, ensure_ascii=False))
        write_text(aside / "README.md", card_text(record, columns))
        for folder in {path.parent for path in aside.rglob("*")}:
            sync_folder(folder)
        aside.rename(out)
        sync_folder(aside.parent)
    except OSError as problem:
        raise InputError(
            f"The export cannot be written to {out} ({problem.strerror}); nothing was left there. "
            "Free space, or name another folder with --out."
        ) from problem
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Outcome(out, record["counts"])


def _fitting(policy: Policy, form: Format) -> Policy:
    if not form.undecided and (policy.keep_ties or policy.keep_unlabelled):
        raise InputError(
            f"--format {form.name} cannot say that a pair is tied or has no label; leave out "
            "--keep-ties and --keep-unlabelled, or choose --format pickapic."
        )
    if form.images == "always" and not policy.images:
        raise InputError(
            f"--format {form.name} is made of images; leave out --no-images, or choose --format "
            "pickapic or weights."
        )
    return replace(policy, images=False) if form.images == "never" else policy


def _check(store: Store, plan: Plan, policy: Policy) -> None:
    if not plan.kept.any():
        raise InputError(
            f"Nothing is left of the store's {len(plan.kept):,} pairs under this policy; see what "
            "it drops with --preview."
        )
    if policy.images:
        kept = plan.rows.filter(pa.array(plan.kept))
        ids = pa.chunked_array([*kept["image_0"].chunks, *kept["image_1"].chunks])
        if absent := absent_images(store, ids):
            raise InputError(
                f"The store has no image {absent[0]}"
                + (f" and {len(absent) - 1:,} more" if len(absent) > 1 else "")
                + "; ingest the source with its images, or export with --no-images."
            )


def write_bytes(path: Path, data: bytes) -> None:
    """Write and sync one file of a folder that is being filled."""
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_text(path: Path, text: str) -> None:
    """The same for a text, which ends with one line break."""
    write_bytes(path, (text.rstrip() + "\n").encode("utf-8"))
