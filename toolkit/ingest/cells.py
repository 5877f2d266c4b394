"""Images as tables hold them: bytes, the {bytes, path} of image features, a path or an address."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from toolkit.ingest.rows import Reference, SourceImage
from toolkit.ingest.tables import Table
from toolkit.ingest.writer import ImageMode

ADDRESS = ("http://", "https://")


def cell_image(
    table: Table,
    number: int,
    column: str,
    value: Any,
    folder: Path,
    mode: ImageMode,
    uid: str | None = None,
) -> SourceImage:
    """The image that a cell stands for; `value` is None where bytes were left unread.

    Without a uid what is copied is named by its sha256, a referenced file by its whole path, and a
    referenced cell by its file's name, row and column: nothing of it is read. An address is a
    name only, and nothing is fetched.
    """
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            return file_image(folder / value["path"], mode, uid)
        value = value.get("bytes")
    if isinstance(value, str):
        if value.startswith(ADDRESS):
            return SourceImage(uid or value, None)
        return file_image(folder / value, mode, uid)
    if mode == "reference" and holds_bytes(table, column):
        name = uid or f"{table.path.name}:{number}:{column}"
        return SourceImage(name, Reference(str(table.path.resolve()), number, column))
    return SourceImage(uid, value or b"")


def file_image(path: Path, mode: ImageMode, uid: str | None = None) -> SourceImage:
    """An image file whose path is no name that its source gave it: see `cell_image`."""
    whole = Reference(str(path.resolve()))
    if uid or mode == "reference":
        return SourceImage(uid or whole.file, whole)
    try:
        return SourceImage(None, path.read_bytes())
    except OSError:  # the writer says which file, and why not
        return SourceImage(whole.file, whole)


def path_image(path: str, folder: Path) -> SourceImage:
    """An image that its source names by its path below `folder`, or by an address alone."""
    if path.startswith(ADDRESS):
        return SourceImage(path, None)
    return SourceImage(path, Reference(str((folder / path).resolve())) if path else None)


def holds_bytes(table: Table, column: str) -> bool:
    """Whether the column holds encoded images rather than paths or addresses."""
    if column not in table.schema.names:
        return False
    kind = table.schema.field(column).type
    test = pa.types
    if test.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return bool(test.is_binary(kind) or test.is_large_binary(kind))


def is_image_column(table: Table, column: str) -> bool:
    """Whether the column can hold images in any form; JSON's columns are taken at their word."""
    if table.kind == "json" or holds_bytes(table, column):
        return True
    kind = table.schema.field(column).type
    test = pa.types
    kinds = (test.is_string, test.is_large_string, test.is_struct, test.is_null)
    return any(is_kind(kind) for is_kind in kinds)
