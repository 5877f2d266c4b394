"""What every way out shares: a plan, a folder that is complete or absent, its record and card.

    OUT/...             the set, as its format lays it out
    OUT/curation.json   policy, decisions, balance, hashes
    OUT/README.md       dataset card

The same export of the same store is the same bytes.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from toolkit.errors import InputError
from toolkit.export.card import card_text, needs_card_library
from toolkit.export.decisions import Plan
from toolkit.export.further import Further, further_columns
from toolkit.export.plan import make_plan
from toolkit.export.policy import Policy
from toolkit.export.provenance import counts, curation
from toolkit.export.rows import exported_tables
from toolkit.export.shards import split_name
from toolkit.parts import UNFINISHED, sync_folder
from toolkit.places import is_local, place
from toolkit.store import Store
from toolkit.store.curation import absent_images
from toolkit.store.pseudonyms import renamer

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
