"""Rows whose images are not read, taken in by columns: a million in seconds.

The rules are the writer's own (`writer.py`), told to whole columns; a test holds the two ways to
the same store. Ids are hashes of each row's words and stay Python's work.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from toolkit.ids import make_comparison_id, make_pair_id
from toolkit.ingest.records import LABELS, Summary, empty_prompt
from toolkit.schema import IMAGES, PAIRS, QUARANTINE, VOTES, conform, source_names
from toolkit.store import Store
from toolkit.store.existing import Holdings, holdings, without, writing, written
from toolkit.store.locks import adding
from toolkit.store.pseudonyms import renamed

PART_ROWS = 200_000
"""Rows of all tables together that make a part each."""


@dataclass(frozen=True)
class SourceColumns:
    """Some rows of one file: columns prompt, image_0, image_1, label, annotator, time, problem.

    `told` tells a row from others on the same images; `extra` are the source's own columns.
    """

    own: pa.Table
    told: list[tuple[str, ...]]
    extra: pa.Table
    split: str | None
    file: str
    first_row: int
    image_columns: tuple[str, str] | None = None
    """Where the images lie in `file`; None where the source has none."""


def ingest_columns(
    store: Store,
    source: str,
    batches: Iterable[SourceColumns],
    *,
    progress: Callable[[int], None] | None = None,
    pseudonyms: Callable[[str], int] | None = None,
    personal: tuple[str, ...] = (),
    part_rows: int = PART_ROWS,
) -> Summary:
    """Add every batch to the store, as `ingest_rows` would with images absent or by reference."""
    summary = Summary()
    waiting: list[dict[str, pa.Table]] = []
    with adding(store, together=True):
        have = holdings(store)
        try:
            for batch in batches:
                tables = _take(source, batch, have, summary)
                if pseudonyms:
                    tables |= renamed(tables["votes"], tables["pairs"], pseudonyms, personal)
                waiting.append(tables)
                if sum(table.num_rows for held in waiting for table in held.values()) >= part_rows:
                    _flush(store, have, waiting, summary)
                if progress:
                    progress(batch.own.num_rows)
        finally:
            _flush(store, have, waiting, summary)
    return summary


def _flush(
    store: Store, have: Holdings, waiting: list[dict[str, pa.Table]], summary: Summary
) -> None:
    """Write what waits as one part a table, pairs last, and empty the list."""
    if not waiting:
        return
    tables = {
        name: pa.concat_tables([held[name] for held in waiting], promote_options="permissive")
        for name in waiting[0]
    }
    with writing(store, have) as news:
        if news.pairs or news.images or news.votes_alone or news.quarantine:
            fresh = without(tables, news)
            summary.images -= tables["images"].num_rows - fresh["images"].num_rows
            ours = pc.is_in(tables["pairs"]["pair_id"], fresh["pairs"]["pair_id"])
            summary.brought_meanwhile(tables["pairs"].filter(pc.invert(ours))["label"].to_pylist())
            tables = fresh
        written(store, tables)
    waiting.clear()


def _take(
    source: str, batch: SourceColumns, have: Holdings, summary: Summary
) -> dict[str, pa.Table]:
    """The batch's rows of every table, in the order in which they must reach the disk."""
    prompts, first, second, labels, problems = (
        batch.own[name].to_pylist() for name in ("prompt", "image_0", "image_1", "label", "problem")
    )
    keep: list[int] = []
    pair_ids: list[str] = []
    aside: list[tuple[Any, ...]] = []
    images: dict[str, tuple[int, int]] = {}
    voices: list[int] = []
    summary.read += len(prompts)
    rows = enumerate(zip(prompts, first, second, labels, problems, batch.told, strict=True))
    for row, (prompt, one, two, label, problem, told) in rows:
        pair_id = make_pair_id(source, prompt or "", one or "", two or "", *told)
        problem = problem or _fault(prompt, one, two, label)
        if problem:
            summary.quarantined += 1
            summary.reasons[problem.split(" (")[0]] += 1
            entry = (pair_id, batch.first_row + row, problem)
            if entry not in have.quarantine:
                have.quarantine.add(entry)
                aside.append((pair_id, batch.file, batch.first_row + row, problem))
            continue
        if batch.image_columns:
            for slot, image_id in enumerate((one, two)):
                if image_id not in have.images and image_id not in images:
                    images[image_id] = (row, slot)
        if pair_id in have.pairs:
            summary.duplicate += 1
            continue
        have.pairs.add(pair_id)
        if pair_id not in have.votes_alone:
            voices.append(len(keep))
        keep.append(row)
        pair_ids.append(pair_id)
    summary.images += len(images)
    have.images.update(dict.fromkeys(images))
    kept = _pairs(source, batch, keep, pair_ids)
    summary.kept += kept.num_rows
    summary.tied += pc.sum(pc.equal(kept["label"], 0.5)).as_py() or 0
    summary.unlabelled += kept["label"].null_count
    return {
        "images": _images(batch, images),
        "votes": _votes(kept, batch, keep, voices),
        "quarantine": _rows(QUARANTINE, aside),
        "pairs": _joined(kept, batch.extra.take(pa.array(keep, pa.int64()))),
    }


def _fault(prompt: str | None, one: str | None, two: str | None, label: float | None) -> str | None:
    if empty_prompt(prompt):
        return "the prompt is empty"
    if not one or not two:
        return f"the uid of image_{int(bool(one))} is empty"
    if label not in LABELS:
        return f"the label is none of 1, 0, 0.5 (it is {label})"
    return None


def _pairs(source: str, batch: SourceColumns, keep: list[int], ids: list[str]) -> pa.Table:
    taken = batch.own.take(pa.array(keep, pa.int64()))
    words = [taken[name].to_pylist() for name in ("prompt", "image_0", "image_1")]
    columns = {
        "pair_id": pa.array(ids, pa.string()),
        "comparison_id": pa.array([make_comparison_id(*row) for row in zip(*words, strict=True)]),
        "prompt": taken["prompt"],
        "image_0": taken["image_0"],
        "image_1": taken["image_1"],
        "label": taken["label"],
        "split": pa.array([batch.split] * len(keep), pa.string()),
        "source": pa.array([source] * len(keep), pa.string()),
    }
    return conform(pa.table(columns), PAIRS)


def _joined(pairs: pa.Table, extra: pa.Table) -> pa.Table:
    """The pairs with the source's columns behind; a column that nobody filled is left out."""
    for name, kept in source_names(extra.column_names).items():
        column = extra[name]
        if pa.types.is_floating(column.type):  # a NaN is no value
            column = pc.if_else(pc.is_nan(column), None, column)
        if column.null_count < extra.num_rows:
            pairs = pairs.append_column(kept, column)
    return pairs


def _votes(kept: pa.Table, batch: SourceColumns, keep: list[int], voices: list[int]) -> pa.Table:
    told = batch.own.select(["annotator", "time"]).take(pa.array(keep, pa.int64()))
    votes = pa.table(
        {
            "pair_id": kept["pair_id"],
            "annotator": told["annotator"],
            "choice": kept["label"],
            "time": told["time"],
        }
    ).take(pa.array(voices, pa.int64()))
    given = pc.and_(pc.is_valid(votes["annotator"]), pc.is_valid(votes["choice"]))
    return conform(votes.filter(given), VOTES)


def _images(batch: SourceColumns, images: dict[str, tuple[int, int]]) -> pa.Table:
    if not batch.image_columns:
        return IMAGES.empty_table()
    columns = {
        "image_id": pa.array(list(images), pa.string()),
        "ref_file": pa.array([batch.file] * len(images), pa.string()),
        "ref_row": pa.array([batch.first_row + row for row, _ in images.values()], pa.int64()),
        "ref_column": pa.array([batch.image_columns[slot] for _, slot in images.values()]),
    }
    return conform(pa.table(columns), IMAGES)


def _rows(schema: pa.Schema, rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, f.type) for column, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
