"""WebDataset shards: the members of a key are the columns of a pair, read as `pairwise` reads them.

KEY.jpg_0.jpg and KEY.0.png are the images jpg_0 and 0, KEY.label_0.txt is the column label_0, and
the fields of KEY.json are columns too: mirrors of Pick-a-Pic, and what `outvoted export --format
webdataset` writes.
"""

import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from toolkit.errors import InputError
from toolkit.files.remote import place
from toolkit.ingest.folders import SUFFIXES
from toolkit.ingest.pairwise import PairwiseOptions, layout_of, open_layouts
from toolkit.ingest.sides import PROBLEM
from toolkit.ingest.source import Opened, Source
from toolkit.ingest.table_formats import split_by_name
from toolkit.ingest.tabular import Table
from toolkit.sharding import Shard

ENDS = (".tar", ".tar.gz", ".tgz")
TEXT = (".txt", ".cls")


@dataclass(frozen=True, kw_only=True)
class WebdatasetOptions(PairwiseOptions):
    """Options of `outvoted ingest webdataset`: those of pairwise, members being columns."""


def open_webdataset(options: WebdatasetOptions) -> Opened:
    """Find the shards and what members they have. InputError (one sentence) where it is unclear."""
    files = [file for path in options.paths for file in _files(place(path))]
    tables = [_table(file, number, options.part) for number, file in enumerate(files)]
    if not any(table.rows for table in tables) and options.part is None:
        raise InputError(f"{files[0]} holds no members; name a tar file with pairs in it.")
    layouts = [layout_of(table, options, _read) for table in tables if table.rows]
    return open_layouts(WEBDATASET, options, layouts)


WEBDATASET = Source(
    "webdataset",
    "WebDataset shards: tar files of images, text, JSON",
    WebdatasetOptions,
    open_webdataset,
    stored_as="webdataset",
    safe_columns=("model_0", "model_1"),
    details="mirrors of Pick-a-Pic and our own export; members are columns as of `pairwise`",
    cards=("pickapic_webdataset",),
)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(f"{path} does not exist; name a tar file or a folder of them.")
    if path.is_file():
        return [path]
    files = sorted(p for p in path.rglob("*.t*") if p.name.endswith(ENDS) and p.name[0] != ".")
    if not files:
        raise InputError(f"The folder {path} holds no tar file; name one that does.")
    return files


def _table(path: Path, number: int, shard: Shard | None) -> Table:
    """A shard with the columns of its pairs' members, and the fields of its first JSON."""
    columns: dict[str, None] = {}
    count = 0
    for count, members in enumerate(_samples(path, lambda name: name == "json"), 1):
        if count == 1:
            columns |= dict.fromkeys(_row({"json": members.get("json")})[0])
        columns |= dict.fromkeys(_column(name) for name in members if name != "json")
    rows = sum(shard is None or shard.has(number + k) for k in range(count))
    table = Table(path, "json", pa.schema([(name, pa.null()) for name in columns]), rows)
    return replace(table, split=split_by_name(path, path.parent), number=number, shard=shard)


def _read(table: Table, names: Sequence[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The shard's pairs by column; members of which no column is among `names` are not read."""

    def wanted(name: str) -> bool:
        return names is None or name == "json" or _column(name) in names

    for number, members in enumerate(_samples(table.path, wanted)):
        if table.deals(number):
            row, problem = _row(members)
            yield number, row | ({PROBLEM: problem} if problem else {})


def _samples(path: Path, wanted: Callable[[str], bool]) -> Iterator[dict[str, bytes | None]]:
    """The members of each key, in the shard's order: NAME.END of KEY.NAME.END -> its bytes where
    they are wanted. The key is the path up to the first dot of the file's name."""
    key = ""
    members: dict[str, bytes | None] = {}
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=stream) as tar:
            for entry in tar:
                if not entry.isfile():
                    continue
                file = PurePosixPath(entry.name)
                start, _, name = file.name.partition(".")
                if members and key != str(file.parent / start):
                    yield members
                    members = {}
                key, name = str(file.parent / start), name.lower()
                data = tar.extractfile(entry) if wanted(name) else None
                members[name] = data.read() if data else None
            if members:
                yield members
    except (tarfile.TarError, OSError, EOFError, zlib.error) as problem:
        raise InputError(
            f"{path} is no tar file, or cut short or damaged ({problem}); the pairs before the "
            "damage are in the store. Fetch it again and run the same command."
        ) from problem


def _column(name: str) -> str:
    """The column of a member: jpg_0 of jpg_0.jpg, caption of caption.txt."""
    stem, dot, end = name.rpartition(".")
    return stem if dot and f".{end}" in (*SUFFIXES, *TEXT) else name


def _row(members: Mapping[str, bytes | None]) -> tuple[dict[str, Any], str | None]:
    """The values of a pair by column, and what is wrong with one of its members."""
    fields: Any = {}
    row: dict[str, Any] = {}
    for name, data in members.items():
        if data is None:
            continue
        try:
            if name == "json":
                fields = json.loads(data)
            elif f".{name}".endswith(TEXT):
                row[_column(name)] = data.decode("utf-8-sig").strip()
            else:
                row[_column(name)] = data
        except (ValueError, RecursionError) as problem:
            return row, f"a member cannot be read ({name}: {problem})"
    return {**(fields if isinstance(fields, dict) else {}), **row}, None
