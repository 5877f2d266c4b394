"""Votes in one table, pairs, images and prompts in others, joined by keys.

A vote names its pair (or the two images), its choice, and where known annotator, time, trust and
axis. The label of a pair is the share of its votes for image_0. Votes stay columns on their way
into the store, so that ten million of them are minutes.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.errors import InputError
from toolkit.ingest.choices import Words, parse_map, word_of
from toolkit.ingest.pairwise import ANNOTATORS, CHOICES, TIMES
from toolkit.ingest.sides import MODELS, PROMPTS, SIDES, first_pair, two
from toolkit.ingest.source import (
    BATCH_VOTES,
    ROWS,
    Batch,
    ImageData,
    ListOptions,
    Opened,
    Reference,
    Source,
    SourceImage,
    no_columns,
    utc,
)
from toolkit.ingest.tabular import (
    Table,
    batches,
    checked_folder,
    find_tables,
    holds_bytes,
    need_columns,
    path_image,
    records,
)
from toolkit.ingest.writer import open_pairs
from toolkit.schema import conform, stacked
from toolkit.store.images import real_path

IMAGE_KEYS = tuple((f"{a}_id", f"{b}_id") for a, b in SIDES) + SIDES
FILES = ("image", "path", "file", "file_name", "image_path", "jpg", "url")
TRUSTS = ("trust", "trust_score", "weight")
AXES = ("axis", "dimension", "criterion")
LABEL_AXES = ("preference", "overall", "overallpreference")
"""Axes that are the label, in lower case without spaces and underscores."""
CHUNK, CHUNK_WITH_IMAGES = 20_000, 64
"""Pairs that are made together."""


@dataclass(frozen=True, kw_only=True)
class RelationalOptions(ListOptions):
    """Options of `outvoted ingest relational`; `paths` are the votes."""

    pairs_table: Annotated[
        str | Path | None, "Table of the pairs; default: each vote names its two images."
    ] = None
    images_table: Annotated[
        str | Path | None, "Table of the images; default: their keys are names, without images."
    ] = None
    prompts_table: Annotated[str | Path | None, "Table of the prompts."] = None
    pair_key: Annotated[str, "Column that joins votes to pairs."] = "pair_id"
    image_key: Annotated[str, "Key of the images table."] = "image_id"
    prompt_key: Annotated[str, "Column that joins pairs or images to prompts."] = "prompt_id"
    image_columns: Annotated[
        str | None, "Keys of the two images in a pair, as in left,right; default: usual names."
    ] = None
    file_column: Annotated[str | None, "Image, or its path, in the images table."] = None
    prompt_column: Annotated[str | None, "Text of the prompt, in whichever table has it."] = None
    choice_column: Annotated[str | None, "A vote's word, or the key of the image that won."] = None
    annotator_column: Annotated[str | None, "Who voted."] = None
    time_column: Annotated[str | None, "When."] = None
    trust_column: Annotated[str | None, "Trust in the vote, 0 or more."] = None
    axis_column: Annotated[str | None, "What was judged; other axes are label sets."] = None
    map: Annotated[Sequence[str], "WORD=MEANING, repeatable, as in left=image_0."] = ()
    by: Annotated[
        Literal["votes", "trust"], "votes: each counts once in the label; trust: by its trust."
    ] = "votes"


@dataclass(frozen=True)
class _Pairs:
    """N pairs by columns."""

    prompts: list[str | None]
    images: tuple[list[str | None], list[str | None]]
    split: list[str | None]
    keys: list[tuple[str, ...]]
    """What distinguishes each pair from others of the same images."""
    extra: pa.Table
    file: str


@dataclass(frozen=True)
class _Images:
    """Where each image is, by key."""

    data: Mapping[str, SourceImage]
    prompts: Mapping[str, str | None]
    models: Mapping[str, str | None]


@dataclass(frozen=True)
class _Votes:
    """M votes by columns, sorted by pair."""

    pair: npt.NDArray[np.int64]
    table: pa.Table
    """With the columns of `BATCH_VOTES` but the row."""


def open_relational(options: RelationalOptions) -> Opened:
    """Read keys and votes; images are left. InputError (one sentence) where they do not join."""
    checked_folder(options.images_dir)
    tables = find_tables(options.paths, what="a table of votes", encoding=options.encoding)
    notes: list[str] = []
    raw = _read(tables)
    prompts = _prompts(options)
    images = _images(options, prompts)
    pairs, place = _pairs(options, raw, images, prompts, tables[0])
    votes = _votes(options, raw, pairs, place, tables[0], notes)
    part = options.part
    chosen = [k for k in range(len(pairs.prompts)) if part is None or part.has(k)][: options.limit]
    size = CHUNK_WITH_IMAGES if images and options.images == "copy" else CHUNK

    def made() -> Iterator[Batch]:
        for start in range(0, len(chosen), size):
            places = np.array(chosen[start : start + size], np.int64)
            yield _batch(pairs, images, votes, places, options)

    return open_pairs(RELATIONAL.name, options, made, rows=len(chosen), notes=notes)


RELATIONAL = Source(
    "relational",
    "Tables of votes, pairs, images, prompts, joined by key",
    RelationalOptions,
    open_relational,
    stored_as="relational",
    safe_columns=("model_0", "model_1"),
    details="a label is the share of its votes, ten a pair say; tables and keys by option",
    cards=("datapoint",),
)


def _read(tables: Sequence[Table]) -> pa.Table:
    """All rows of the tables, without encoded images; JSON's types are inferred."""
    parts = []
    for table in tables:
        names = [name for name in table.schema.names if not holds_bytes(table, name)]
        if table.kind == "json":
            parts.append(pa.Table.from_pylist([row for _, row in records(table, names)]))
        else:
            whole = [batch for _, batch in batches(table, names, 1 << 20)]
            parts.append(pa.Table.from_batches(whole) if whole else table.schema.empty_table())
    return stacked(parts)


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Keys as text, whatever their type; whole floats without a point."""
    if pa.types.is_floating(column.type):
        return pa.chunked_array([[word_of(value) for value in column.to_pylist()]], pa.string())
    return column.cast(pa.string())


def _column(names: Sequence[str], asked: str | None, usual: Sequence[str]) -> str | None:
    return asked or next((name for name in usual if name in names), None)


def _prompts(options: RelationalOptions) -> dict[str, str | None]:
    if options.prompts_table is None:
        return {}
    tables = find_tables([options.prompts_table], what="a table of prompts")
    text = _column(tables[0].schema.names, options.prompt_column, PROMPTS) or "prompt"
    need_columns(tables[0], (options.prompt_key, text), "name them with --prompt-key")
    read = _read(tables)
    keys = _texts(read[options.prompt_key]).to_pylist()
    return dict(zip(keys, map(word_of, read[text].to_pylist()), strict=True))


def _images(options: RelationalOptions, prompts: Mapping[str, str | None]) -> _Images | None:
    if options.images_table is None:
        return None
    data: dict[str, SourceImage] = {}
    texts: dict[str, str | None] = {}
    models: dict[str, str | None] = {}
    for table in find_tables([options.images_table], what="a table of images"):
        names = table.schema.names
        file = _column(names, options.file_column, FILES)
        needed = (options.image_key, file or FILES[0])
        need_columns(table, needed, "name them with --image-key and --file-column")
        folder = Path(options.images_dir or table.path.parent)
        cells = holds_bytes(table, file or "")
        read = _read([table])
        keys = _texts(read[options.image_key]).to_pylist()
        values = [None] * len(keys) if cells else read[file].to_pylist()
        for number, (key, value) in enumerate(zip(keys, values, strict=True)):
            if cells:
                data[key] = SourceImage(key, Reference(real_path(table.path), number, file))
            else:
                data[key] = path_image(str(value or ""), folder, outside=options.allow_outside)
        texts |= dict(zip(keys, _prompt_texts(options, read, prompts), strict=True))
        if "model" in names:
            models |= dict(zip(keys, read["model"].to_pylist(), strict=True))
    return _Images(data, texts, models)


def _prompt_texts(
    options: RelationalOptions, read: pa.Table, prompts: Mapping[str, str | None]
) -> list[str | None]:
    """The prompt of each row: its text, or by its key."""
    text = _column(read.column_names, options.prompt_column, PROMPTS)
    if text is not None and text in read.column_names:
        return [word_of(value) for value in read[text].to_pylist()]
    if options.prompt_key in read.column_names:
        return [prompts.get(key) for key in _texts(read[options.prompt_key]).to_pylist()]
    return [None] * read.num_rows


def _pairs(
    options: RelationalOptions,
    raw: pa.Table,
    images: _Images | None,
    prompts: Mapping[str, str | None],
    votes: Table,
) -> tuple[_Pairs, pa.Array]:
    """The pairs, and the place of each vote's pair among them (null: it is in no table)."""
    if options.pairs_table is not None:
        tables = find_tables([options.pairs_table], what="a table of pairs")
        need_columns(tables[0], (options.pair_key,), "name it with --pair-key")
        read, file = _read(tables), str(tables[0].path)
        keys = _texts(read[options.pair_key])
        need_columns(votes, (options.pair_key,), "name the one that joins them with --pair-key")
        joined = _texts(raw[options.pair_key]).combine_chunks()
        place = pc.index_in(joined, value_set=keys.combine_chunks())
    else:
        names = _sides(options, raw, str(votes.path))
        by = [*names, *(n for n in (options.prompt_key, *PROMPTS) if n in raw.column_names)]
        whole = pc.binary_join_element_wise(*(_texts(raw[name]) for name in by), "\x1f")
        coded = whole.combine_chunks().dictionary_encode()
        known = pc.indices_nonzero(pc.is_valid(coded)).to_numpy()
        first = np.unique(coded.indices.to_numpy(zero_copy_only=False)[known], return_index=True)[1]
        read = raw.select(by).take(pa.array(known[first]))
        keys, file, place = None, str(votes.path), coded.indices
    names = _sides(options, read, file)
    sides = tuple(_texts(read[name]).to_pylist() for name in names)
    texts = _prompt_texts(options, read, prompts)
    if images is not None and not any(texts):
        texts = [images.prompts.get(key) for key in sides[0]]
    if texts and not any(texts):
        raise InputError(
            f"No pair of {file} has a prompt: name the column with --prompt-column, or the table "
            "with --prompts-table and its key with --prompt-key."
        )
    models = first_pair(read.column_names, MODELS)
    own = {*names, *(models or ()), *PROMPTS, "split", options.prompt_column}
    extra = read.select([name for name in read.column_names if name not in own])
    for slot in (0, 1):
        if models:
            extra = extra.append_column(f"model_{slot}", read[models[slot]])
        elif images is not None and images.models:
            made = pa.array([images.models.get(key) for key in sides[slot]], pa.string())
            extra = extra.append_column(f"model_{slot}", made)
    split = read["split"].to_pylist() if "split" in read.column_names else [None] * len(texts)
    listed = [] if keys is None else keys.to_pylist()
    ids: list[tuple[str, ...]] = [(key or "",) for key in listed] or [()] * len(texts)
    return _Pairs(texts, (sides[0], sides[1]), split, ids, extra, file), place


def _sides(options: RelationalOptions, read: pa.Table, file: str) -> tuple[str, str]:
    names = two(options.image_columns, "image-columns") or first_pair(read.column_names, IMAGE_KEYS)
    if names is None or not {*names} <= {*read.column_names}:
        raise InputError(
            f"{file} does not name two images by columns (found: {', '.join(read.column_names)}); "
            "name them with --image-columns LEFT,RIGHT, or their table with --pairs-table."
        )
    return names


def _votes(
    options: RelationalOptions,
    raw: pa.Table,
    pairs: _Pairs,
    place: pa.Array,
    table: Table,
    notes: list[str],
) -> _Votes:
    """The votes on known pairs, sorted by pair; `notes` says how many are left out."""
    names = raw.column_names
    choice = _column(names, options.choice_column, (*CHOICES, "winner_id", "chosen"))
    if choice is None or choice not in names:
        raise InputError(
            f"{table.path} has no column of a known name for a vote's choice (found: "
            f"{', '.join(names)}); name it with --choice-column."
        )
    words = Words(choice, parse_map(options.map))
    columns = {"row": pc.fill_null(place, -1)}
    columns |= _said(words, _texts(raw[choice]).combine_chunks(), pairs, place, table)
    for name, asked, usual in (
        ("annotator", options.annotator_column, ANNOTATORS),
        ("time", options.time_column, TIMES),
        ("weight", options.trust_column, TRUSTS),
        ("axis", options.axis_column, AXES),
    ):
        if (column := _column(names, asked, usual)) is not None:
            need_columns(table, [column], f"name another with --{name}-column")
            columns[name] = _READ[name](raw[column])
    votes = conform(pa.table(columns), BATCH_VOTES)
    unknown, silent = pc.less(votes["row"], 0), pc.is_null(votes["choice"])
    for wrong, why in (
        (unknown, f"their {options.pair_key} is in no row of the pairs"),
        (pc.and_(silent, pc.invert(unknown)), "they have no choice"),
    ):
        if count := pc.sum(wrong).as_py():
            notes.append(f"left out {count:,} votes: {why}")
    votes = votes.filter(pc.invert(pc.or_(unknown, silent)))
    row = votes["row"].to_numpy()
    order = np.argsort(row, kind="stable")
    return _Votes(row[order], votes.drop_columns("row").take(pa.array(order)))


def _times(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    kind = BATCH_VOTES.field("time").type
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(kind)
    return pa.array([utc(time) for time in column.to_pylist()], kind)


def _axis_names(column: pa.ChunkedArray) -> pa.Array:
    """Axes by name; null for the one that is the label."""
    coded = _texts(column).combine_chunks().dictionary_encode()
    plain = [re.sub(r"[\s_-]", "", (name or "").lower()) for name in coded.dictionary.to_pylist()]
    names = [
        None if text in LABEL_AXES else name
        for text, name in zip(plain, coded.dictionary.to_pylist(), strict=True)
    ]
    return pa.array(names, pa.string()).take(coded.indices)


_READ: dict[str, Callable[[pa.ChunkedArray], Any]] = {
    "annotator": _texts,
    "time": _times,
    "weight": lambda column: column.cast(pa.float64()),
    "axis": _axis_names,
}


def _said(
    words: Words, texts: pa.Array, pairs: _Pairs, place: pa.Array, table: Table
) -> dict[str, Any]:
    """choice, both and grade of each vote: the key of one of its images, or a word."""
    is_0, is_1 = (
        pc.fill_null(pc.equal(texts, pa.array(side, pa.string()).take(place)), False)
        for side in pairs.images
    )
    elsewhere = pc.or_(pc.or_(is_0, is_1), pc.is_null(place))
    plain = pc.if_else(elsewhere, pa.scalar(None, pa.string()), texts)
    coded = plain.dictionary_encode()
    for entry in pc.value_counts(plain).to_pylist():
        words.count(entry["values"], times=entry["counts"])
    words.check(table.path)
    meant = [words(word) for word in coded.dictionary.to_pylist()]
    label, both, grade = (
        pa.array([getattr(choice, name) for choice in meant], kind).take(coded.indices)
        for name, kind in (
            ("label", pa.float64()),
            ("both_are", pa.string()),
            ("grade", pa.string()),
        )
    )
    choice = pc.if_else(is_0, 1.0, pc.if_else(is_1, 0.0, label))
    return {"choice": choice, "both_are": both, "grade": grade}


def _batch(
    pairs: _Pairs,
    images: _Images | None,
    votes: _Votes,
    chosen: npt.NDArray[np.int64],
    options: RelationalOptions,
) -> Batch:
    first, last = (np.searchsorted(votes.pair, chosen, side) for side in ("left", "right"))
    counts = last - first
    row = np.repeat(np.arange(len(chosen)), counts)
    ends = np.repeat(np.cumsum(counts), counts)
    own = votes.table.take(pa.array(np.arange(counts.sum()) - ends + np.repeat(last, counts)))
    sides = [[side[k] for k in chosen] for side in pairs.images]
    labels = _labels(own, row, len(chosen), options)
    problems: list[str | None] = [None] * len(chosen)
    data: list[list[ImageData]] = [[], []]
    for slot, side in enumerate(sides):
        if images is None:
            break
        absent = SourceImage(None, None, "it is not in the images table")
        shown = [images.data.get(key or "", absent) for key in side]
        data[slot] = [image.data for image in shown]
        for place, image in enumerate(shown):
            problems[place] = problems[place] or (
                image.problem and f"image_{slot}: {image.problem}"
            )
    rows = {
        "prompt": pa.array([pairs.prompts[k] for k in chosen], pa.string()),
        "image_0": pa.array([key or "" for key in sides[0]], pa.string()),
        "image_1": pa.array([key or "" for key in sides[1]], pa.string()),
        **dict(zip(("label", "label_weight"), labels.pop(None).columns, strict=True)),
        "split": pa.array([options.split or word_of(pairs.split[k]) for k in chosen], pa.string()),
        "problem": pa.array(problems, pa.string()),
        "source_file": pa.repeat(pairs.file, len(chosen)),
        "source_row": pa.array(chosen),
    }
    return Batch(
        rows=conform(pa.table(rows), ROWS),
        distinguishing=[pairs.keys[k] for k in chosen],
        extra=pairs.extra.take(pa.array(chosen))
        if pairs.extra.num_columns
        else no_columns(len(chosen)),
        images=(data[0], data[1]) if images else None,
        votes=own.add_column(0, BATCH_VOTES.field("row"), pa.array(row)),
        axes=labels,
    )


def _labels(
    votes: pa.Table, row: npt.NDArray[np.int64], count: int, options: RelationalOptions
) -> dict[Any, pa.Table]:
    """Axis -> label and label_weight of each row; None: the label itself."""
    choice = votes["choice"].to_numpy()
    weight = np.ones(len(choice))
    if options.by == "trust":
        weight = pc.fill_null(votes["weight"], 1.0).to_numpy()
    axes: dict[Any, pa.Table] = {}
    for axis in (None, *(name for name in votes["axis"].unique().to_pylist() if name)):
        here = pc.is_null(votes["axis"]) if axis is None else pc.equal(votes["axis"], axis)
        mask = pc.fill_null(here, False).to_numpy()
        total = np.bincount(row[mask], weights=weight[mask], minlength=count)
        won = np.bincount(row[mask], weights=(weight * choice)[mask], minlength=count)
        none = total == 0
        share = np.divide(won, total, out=np.zeros(count), where=~none)
        columns = [pa.array(values, mask=none) for values in (np.minimum(share, 1.0), total)]
        axes[axis] = pa.table(columns, names=["label", "label_weight"])
    return axes
