"""Text files in any encoding, also packed by gzip: as text, or a sentence about odd bytes."""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from toolkit.errors import InputError

_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""Byte order marks, and the encoding that each announces."""


def _unpacked(path: Path) -> Any:
    return gzip.open(path.open("rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def encoding_of(head: bytes, given: str | None) -> str:
    """The encoding to read by: the one given, else the mark's, else UTF-8."""
    return given or next((n for mark, n in _MARKS.items() if head.startswith(mark)), "utf-8")


@contextmanager
def open_text(path: Path, given: str | None = None) -> Iterator[IO[str]]:
    """A text file, unpacked where it ends in .gz, without its byte order mark.

    InputError where bytes of it are not in the encoding: which ones, and how to name another.
    """
    with _unpacked(path) as data:
        encoding = encoding_of(data.read(4), given)
        data.seek(0)
        with io.TextIOWrapper(data, encoding, newline="") as stream:
            try:
                yield stream
            except UnicodeError as problem:
                raise InputError(_undecoded(path, encoding)) from problem


def read_text(path: Path, given: str | None = None) -> str:
    """A whole text file; see `open_text`."""
    with open_text(path, given) as stream:
        return stream.read()


def _undecoded(path: Path, encoding: str) -> str:
    """The sentence for bytes that the encoding does not have: where they are and may be read."""
    number, line, odd = _odd_line(path, encoding)
    guess = "utf-16-le" if line.count(b"\0") > len(line) / 4 else "cp1252"
    near = line[max(0, odd - 20) : odd + 20].decode(guess, "replace").strip()
    return (
        f"{path} is not in {encoding.upper()}: line {number:,} has the byte {line[odd]:#04x}. Name "
        f"the file's encoding with --encoding, for instance --encoding {guess}, in which it reads "
        f"{near!r}."
    )


def _odd_line(path: Path, encoding: str) -> tuple[int, bytes, int]:
    """The first line that is not in the encoding: its number, its bytes, and the odd byte's place.

    Encodings of two bytes and more have no lines of bytes; they are taken as one.
    """
    wide = encoding.startswith(("utf-16", "utf-32"))
    with _unpacked(path) as data:
        lines = [data.read()] if wide else data
        for number, line in enumerate(lines, 1):
            try:
                line.decode(encoding)
            except UnicodeError as problem:
                return number, line, min(getattr(problem, "start", 0), len(line) - 1)
    return 1, b"?", 0
