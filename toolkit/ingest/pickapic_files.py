"""Pick-a-Pic's files, found and checked: which columns there are, and of what kind."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from toolkit.dealing import Shard
from toolkit.errors import InputError
from toolkit.ingest.tables import Table, find_tables, kept_types, need_columns

NEEDED = ("caption", "image_0_uid", "image_1_uid", "label_0", "label_1")
IMAGES = ("jpg_0", "jpg_1")
OURS = {*NEEDED, *IMAGES}
"""Columns that become the store's own."""


@dataclass(frozen=True)
class PickapicFiles:
    """Files whose footers and columns were checked; nothing was read from them yet."""

    tables: tuple[Table, ...]
    rows: int
    images: bool
    types: dict[str, pa.DataType]
    """Arrow types of the columns that are kept as src_NAME."""


def open_pickapic(paths: Sequence[str | Path], *, shard: Shard | None = None) -> PickapicFiles:
    """Find and check the files. InputError (one sentence) on the first that will not do."""
    tables = find_tables(paths, allowed=("parquet", "arrow"), what="Pick-a-Pic", shard=shard)
    for table in tables:
        _check(table)
    with_images = {all(name in table.schema.names for name in IMAGES) for table in tables}
    if len(with_images) > 1:
        raise InputError(
            "Some of the files have the columns jpg_0 and jpg_1 and some have not; ingest the two "
            "kinds one after the other."
        )
    rows = sum(table.rows for table in tables)
    return PickapicFiles(tables, rows, with_images.pop(), kept_types(tables, tuple(OURS)))


def _check(table: Table) -> None:
    need_columns(table, NEEDED, "name files in Pick-a-Pic's columns")
    schema = table.schema
    if len(lone := [name for name in IMAGES if name in schema.names]) == 1:
        raise InputError(
            f"{table.path} has {lone[0]} without its partner; it needs both or neither."
        )
    for name in (*NEEDED, *IMAGES):
        if name in schema.names and not _fits(name, kind := schema.field(name).type):
            wanted = {"label": "a number", "jpg_0": "bytes", "jpg_1": "bytes"}
            need = wanted.get(name if name in IMAGES else name[:5], "text")
            raise InputError(
                f"{table.path} holds {kind} in column {name}, where {need} is needed; write it "
                "anew with that type, or name another file."
            )


def _fits(name: str, kind: pa.DataType) -> bool:
    test = pa.types
    if test.is_dictionary(kind):
        kind = kind.value_type
    if name in IMAGES:
        if test.is_struct(kind):  # the {bytes, path} of `datasets`' image feature
            return kind.get_field_index("bytes") >= 0
        return bool(test.is_binary(kind) or test.is_large_binary(kind))
    if name.startswith("label"):
        numbers = (test.is_integer, test.is_floating, test.is_null, test.is_boolean)
        return any(is_kind(kind) for is_kind in numbers)
    return any(is_kind(kind) for is_kind in (test.is_string, test.is_large_string))


def split_of(table: Table) -> str | None:
    """The split a file name begins with, or holds between signs: train-00000-of-00645.parquet."""
    found = re.search(r"(?:^|[^a-z])(train|validation|test)(?:[^a-z]|$)", table.path.stem.lower())
    return table.split or (found[1] if found else None)
