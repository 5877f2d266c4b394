"""Where a table has the prompt and the two images of a pair: by option, else by usual names."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import pyarrow as pa

from toolkit.errors import InputError
from toolkit.ingest.choices import word_of
from toolkit.ingest.column_types import kept_type
from toolkit.ingest.source import ImageMode, ListOptions, SourceImage
from toolkit.ingest.tabular import (
    Table,
    cell_image,
    holds_bytes,
    is_image_column,
    need_columns,
)

Row: TypeAlias = Mapping[str, Any]
Read: TypeAlias = Callable[[Table, list[str] | None], Iterator[tuple[int, dict[str, Any]]]]
"""(table, names) -> (row number, values by column), as `tabular.records`; None: all columns."""

ENDS = (("0", "1"), ("1", "2"), ("A", "B"), ("a", "b"), ("left", "right"))
_IMAGES = ("jpg", "image", "img", "output_image", "image_path", "path", "image_id", "video")
SIDES: tuple[tuple[str, str], ...] = (
    *(
        (form.format(name, first), form.format(name, second))
        for first, second in ENDS
        for name in _IMAGES
        for form in ("{0}_{1}", "{0}{1}", "{1}_{0}")
    ),
    *(("left", "right"), ("image_left_id", "image_right_id"), ("0", "1")),
)
"""Names of the two image columns, in the order they are looked for."""
MODELS: tuple[tuple[str, str], ...] = tuple(
    (form.format(first), form.format(second))
    for first, second in ENDS
    for form in ("model_{0}", "model{0}", "{0}_model")
)
EDITED = ("source_image", "source_img")
"""Columns of the image that both sides are edits of."""
UIDS = (("image_0_uid", "image_1_uid"),)
PROBLEM = ""
"""The key under which a reader says what is wrong with a row."""
PROMPTS = ("prompt", "caption", "instruction", "instruct_prompt", "original_prompt", "text", "txt")


@dataclass(frozen=True, kw_only=True)
class SidesOptions(ListOptions):
    """Options of sources that find prompt and images in the columns of a table."""

    prompt_column: Annotated[str | None, "Column of the prompt; default: a usual name."] = None
    image_columns: Annotated[
        str | None, "The two image columns, as in left,right; default: usual names."
    ] = None
    uid_columns: Annotated[str | None, "Columns that name the two images."] = None
    name_columns: Annotated[
        str | None, "Columns of what the sides are called, such as their models, as in left,right."
    ] = None
    source_image_column: Annotated[
        str | None, "Image that both sides edit: kept beside the pair, not trained on."
    ] = None
    names_only: Annotated[bool, "The image columns are names; there are no images."] = False
    map: Annotated[
        Sequence[str],
        "WORD=MEANING, repeatable: image_0, image_1, tie, both_good, both_bad, none, 0.7.",
    ] = ()


@dataclass(frozen=True)
class Sides:
    """The columns of prompt and images of one table."""

    table: Table
    folder: Path
    prompt: str
    images: tuple[str, str]
    uids: tuple[str, str] | None
    names: tuple[str, str] | None
    edited: str | None
    names_only: bool
    mode: ImageMode
    outside: bool

    @property
    def read(self) -> list[str]:
        """The columns to read: encoded images that stay in place are not among them."""
        kinds = self.table.schema
        return [
            name
            for name in kinds.names
            if not holds_bytes(self.table, name)
            or (
                name in (*self.images, self.edited)
                and (self.mode == "copy" or pa.types.is_struct(kinds.field(name).type))
            )
        ]

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Types of the source's other columns."""
        return {
            field.name: kept_type(field.type)
            for field in self.table.schema
            if field.name not in self.own and not pa.types.is_null(field.type)
        }

    @property
    def own(self) -> set[str]:
        """Columns that become the store's own."""
        asked = (*self.images, *(self.uids or ()), *(self.names or ()), self.edited)
        return {PROBLEM, self.prompt, "split", *(name for name in asked if name)}

    def called(self, row: Row) -> tuple[Any, ...]:
        """What the row's sides are called."""
        return tuple(cell(row, name) for name in self.names or ())

    def text(self, row: Row) -> str | None:
        """The row's prompt."""
        value = cell(row, self.prompt)
        return value if isinstance(value, str) or value is None else word_of(value)

    def image(self, slot: int, number: int, row: Row) -> SourceImage:
        """One side's image."""
        name = self.images[slot]
        uid = word_of(cell(row, self.uids[slot])) if self.uids else None
        value = cell(row, name)
        if self.names_only:
            return SourceImage(uid or word_of(value), None)
        return self._image(number, name, value, uid)

    def extra(self, number: int, row: Row) -> dict[str, Any]:
        """The source's other columns, with what the sides are called as model_0 and model_1, and
        the image that they edit as source_image."""
        extra: dict[str, Any] = {n: value for n, value in row.items() if n not in self.own}
        extra |= {f"model_{slot}": name for slot, name in enumerate(self.called(row))}
        if self.edited is not None:
            extra["source_image"] = value = cell(row, self.edited)
            if not self.names_only and (value is not None or self.mode == "reference"):
                extra["source_image"] = self._image(number, self.edited, value)
        return extra

    def _image(self, number: int, column: str, value: Any, uid: str | None = None) -> SourceImage:
        place = (self.table, number, column, value, self.folder, self.mode, uid)
        return cell_image(*place, outside=self.outside)


def find_sides(table: Table, options: SidesOptions) -> Sides:
    """The table's columns of prompt and images. InputError that lists the columns it has."""
    there = table.schema.names
    images = two(options.image_columns, "image-columns") or first_pair(there, SIDES)
    prompt = options.prompt_column or next((name for name in PROMPTS if name in there), None)
    if images is None or prompt is None:
        lack = "the two images" if images is None else "the prompt"
        remedy = "--image-columns LEFT,RIGHT" if images is None else "--prompt-column NAME"
        raise InputError(
            f"{table.path} has no columns of usual names for {lack} (found: {', '.join(there)}); "
            f"name yours with {remedy}."
        )
    uids = two(options.uid_columns, "uid-columns") or first_pair(there, UIDS)
    names = two(options.name_columns, "name-columns") or first_pair(there, MODELS)
    need(table, (prompt, *images, *(uids or ()), *(names or ())), "name others by option")
    for name in images:
        if name in there and not options.names_only and not is_image_column(table, name):
            raise InputError(
                f"{table.path} holds {table.schema.field(name).type} in column {name}, where images"
                " or paths to them are needed; name others with --image-columns, or give "
                "--names-only where there are no images."
            )
    folder = Path(options.images_dir or table.path.parent)
    names_only, mode = options.names_only, options.images
    edited = options.source_image_column or next((n for n in EDITED if n in there), None)
    need(table, (edited,), "name another with --source-image-column")
    return Sides(
        table, folder, prompt, images, uids, names, edited, names_only, mode, options.allow_outside
    )


def cell(row: Row, name: str) -> Any:
    """A row's value under a name; data.image1 is image1 inside data."""
    if name in row or "." not in name:
        return row.get(name)
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def column_of(table: Table, name: str) -> str:
    """The table's column that has a name: data of data.image1, unless it is a column itself."""
    return name if name in table.schema.names else name.split(".")[0]


def need(table: Table, names: Sequence[str | None], remedy: str) -> None:
    """InputError naming the columns that the table lacks, those it has, and the remedy."""
    need_columns(table, [column_of(table, name) for name in names if name], remedy)


def first_pair(names: Sequence[str], known: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """The first known pair of which both names are there."""
    return next((pair for pair in known if {*pair} <= {*names}), None)


def two(text: str | None, name: str) -> tuple[str, str] | None:
    """Two names from LEFT,RIGHT. InputError on anything else."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
        raise InputError(f"--{name} is {text!r}; write two columns with a comma: LEFT,RIGHT.")
    return parts[0], parts[1]
