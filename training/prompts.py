"""Prompts for `outvoted evaluate`: from a text, table, JSON or Parquet file, or the mini world.

Pick-a-Pic v2's test set comes as Parquet with `caption`, HPDv2's benchmark as JSON lists of
strings, PartiPrompts as tab-separated text with `Prompt`; other collections as lists of objects.
"""

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from toolkit.errors import InputError

KNOWN = ("prompt", "caption", "text")
"""Columns that hold prompts if none is named; the first of these, in any case."""
_SUFFIXES = (".txt", ".tsv", ".csv", ".json", ".jsonl", ".parquet")


def read_prompts(source: str, column: str = "") -> list[str]:
    """The prompts of a file (see _SUFFIXES), or of miniworld:COUNT; each once, in order.

    `column`: name of the column or key; by default the first of KNOWN that is there. InputError if
    there is no such column or no prompt, or the file cannot be read.
    """
    if source.startswith("miniworld:"):
        return _miniworld(source)
    file = Path(source)
    try:
        every = _read(file, column)
    except (OSError, ValueError) as problem:  # pyarrow's errors are ValueErrors, UnicodeDecode too
        raise InputError(
            f"The prompts in {file} cannot be read ({' '.join(str(problem).split())}); name a "
            f"{', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]} file, or miniworld:100."
        ) from problem
    prompts = list(dict.fromkeys(text.strip() for text in every if text.strip()))
    if not prompts:
        raise InputError(f"{file} contains no prompt; name a file that does.")
    return prompts


def _miniworld(source: str) -> list[str]:
    from toolkit.miniworld.exact_scores import sample_prompts
    from toolkit.miniworld.prompts import to_words

    count = source.removeprefix("miniworld:")
    if not count.isdigit() or not int(count):
        raise InputError(f"{source!r} names no number of prompts; write miniworld:100.")
    return [to_words(prompt) for prompt in sample_prompts(int(count))]


def _read(file: Path, column: str) -> list[str]:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return _from_parquet(file, column)
    if suffix not in (*_SUFFIXES, ""):
        raise InputError(
            f"Prompts cannot be read from a file such as {file}; name a "
            f"{', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]} file."
        )
    text = file.read_text(encoding="utf-8-sig")
    if suffix == ".json":
        return _from_json(json.loads(text), file, column)
    if suffix == ".jsonl":
        return _from_json(
            [json.loads(line) for line in text.split("\n") if line.strip()], file, column
        )
    if suffix in (".csv", ".tsv"):
        return _from_rows(_rows(text, tabs=suffix == ".tsv"), file, column)
    return text.splitlines()


def _from_parquet(file: Path, column: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = chosen(pq.read_schema(file).names, file, column)
    values = pq.read_table(file, columns=[name])[name]
    with contextlib.suppress(
        pa.ArrowNotImplementedError
    ):  # lists and structs are no text: refused below
        values = values.cast(pa.string())
    return _texts(values.to_pylist(), file, name)


def _from_json(content: Any, file: Path, column: str) -> list[str]:
    """A list of strings or objects, or an object: of such lists, of strings, or by columns."""
    if isinstance(content, dict):
        lists = all(isinstance(value, list) for value in content.values())
        names = [name for name in content if name.lower() in (column.lower(), *KNOWN)]
        if lists and names:
            name = chosen(list(content), file, column)
            return _texts(content[name], file, name)
        content = (
            [row for rows in content.values() for row in rows] if lists else [*content.values()]
        )
    rows = content if isinstance(content, list) else []
    if any(isinstance(row, dict) for row in rows):
        names = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
        name = chosen(names, file, column)
        rows = [row.get(name) if isinstance(row, dict) else row for row in rows]
        return _texts(rows, file, name)
    return _texts(rows, file, "")


def _rows(text: str, *, tabs: bool) -> Iterator[tuple[int, list[str]]]:
    """The line each row begins on, from 1, and its cells.

    In tab-separated text a quote is a character, unless the whole cell is quoted: PartiPrompts has
    cells that begin with a quote.
    """
    if not tabs:
        reader, begins = csv.reader(io.StringIO(text), strict=True), 1
        for cells in reader:
            yield begins, cells
            begins = reader.line_num + 1
        return
    for number, line in enumerate(text.split("\n"), 1):
        yield number, [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell: str) -> str:
    inner = cell[1:-1]
    whole = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if whole else cell


def _from_rows(rows: Iterator[tuple[int, list[str]]], file: Path, column: str) -> list[str]:
    try:
        _, heading = next(rows, (1, []))
        place = heading.index(chosen(heading, file, column))
        lines = [(number, cells) for number, cells in rows if any(cells)]
    except csv.Error as problem:
        raise ValueError(str(problem)) from problem
    for number, cells in lines:
        if len(cells) != len(heading):
            raise InputError(
                f"Line {number} of {file} has another number of cells ({len(cells)}) than its "
                f"heading ({len(heading)}); fix it, or put the prompts into a .txt file, a line "
                "each."
            )
    return [cells[place] for _, cells in lines]


def chosen(names: Sequence[str], file: Path, column: str) -> str:
    """The column of the prompts. InputError lists the columns if it is not among them."""
    if column in names and column:
        return column
    if not column:
        for wanted in KNOWN:
            if name := next((name for name in names if name.lower() == wanted), None):
                return name
    wanted = repr(column) if column else f"{', '.join(KNOWN[:-1])} or {KNOWN[-1]}"
    there = ", ".join(name for name in names if name) or "none"
    raise InputError(
        f"{file} has no column {wanted} (columns: {there}); name the column of the prompts "
        "with --column."
    )


def _texts(values: Sequence[Any], file: Path, column: str) -> list[str]:
    """The texts without nulls. InputError if a value is neither text nor null."""
    strange = next((value for value in values if not isinstance(value, str | None)), None)
    if strange is not None:
        where = f"the column {column!r} of {file}" if column else str(file)
        raise InputError(
            f"In {where} {json.dumps(strange, default=str)[:60]} is no text; name the column of "
            "the prompts with --column."
        )
    return [text for text in values if text]
