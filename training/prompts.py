"""Prompts for `outvoted evaluate`: from a file of any usual shape, or of the mini world.

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
"""Columns that are taken for the prompts where none is named, whatever their case, in order."""
_SUFFIXES = (".txt", ".tsv", ".csv", ".json", ".jsonl", ".parquet")


def read_prompts(source: str, column: str = "") -> list[str]:
    """The prompts of a file (see _SUFFIXES), or of miniworld:COUNT; each once, in order.

    `column` names a column or key; without it one of KNOWN is looked for. InputError where there
    is no such column, no prompt, or no reading the file.
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
        raise InputError(f"{file} holds no prompt; name a file that does.")
    return prompts


def _miniworld(source: str) -> list[str]:
    from toolkit.miniworld.prompts import to_words
    from toolkit.miniworld.scorer import sample_prompts

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
            f"{file} is of no kind that prompts are read from; name a {', '.join(_SUFFIXES[:-1])} "
            f"or {_SUFFIXES[-1]} file."
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
    found = pq.read_table(file, columns=[name])[name]
    with contextlib.suppress(pa.ArrowNotImplementedError):  # lists and structs: no text, said below
        found = found.cast(pa.string())
    return _texts(found.to_pylist(), file, name)


def _from_json(found: Any, file: Path, column: str) -> list[str]:
    """A list of strings or objects, or an object: of such lists, of strings, or by columns."""
    if isinstance(found, dict):
        lists = all(isinstance(value, list) for value in found.values())
        names = [name for name in found if name.lower() in (column.lower(), *KNOWN)]
        if lists and names:
            name = chosen(list(found), file, column)
            return _texts(found[name], file, name)
        found = [one for value in found.values() for one in value] if lists else [*found.values()]
    rows = found if isinstance(found, list) else []
    if any(isinstance(row, dict) for row in rows):
        names = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
        name = chosen(names, file, column)
        rows = [row.get(name) if isinstance(row, dict) else row for row in rows]
        return _texts(rows, file, name)
    return _texts(rows, file, "")


def _rows(text: str, *, tabs: bool) -> Iterator[tuple[int, list[str]]]:
    """The line each row begins on, from 1, and its cells.

    Between tabs a quote is a quote, unless all of the cell stands in them: PartiPrompts has cells
    that begin with one.
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
                f"heading ({len(heading)}); mend it, or keep the prompts in a .txt, one a line."
            )
    return [cells[place] for _, cells in lines]


def chosen(names: Sequence[str], file: Path, column: str) -> str:
    """The column of the prompts. InputError with those there are where it is not found."""
    if column in names and column:
        return column
    if not column:
        for wanted in KNOWN:
            if found := next((name for name in names if name.lower() == wanted), None):
                return found
    wanted = repr(column) if column else f"{', '.join(KNOWN[:-1])} or {KNOWN[-1]}"
    there = ", ".join(name for name in names if name) or "none"
    raise InputError(
        f"{file} has no column {wanted} (columns: {there}); name the one that holds the prompts "
        "with --column."
    )


def _texts(found: Sequence[Any], file: Path, column: str) -> list[str]:
    """InputError where something else than text or nothing is among them."""
    strange = next((one for one in found if not isinstance(one, str | None)), None)
    if strange is not None:
        where = f"the column {column!r} of {file}" if column else str(file)
        raise InputError(
            f"In {where} {json.dumps(strange, default=str)[:60]} is no text; name the column that "
            "holds the prompts with --column."
        )
    return [one for one in found if one]
