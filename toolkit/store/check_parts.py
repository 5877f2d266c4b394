"""The first half of a check: every part read through, and what killed writers left."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.images import content_hash
from toolkit.pairs import IMAGES, PAIRS, QUARANTINE, THUMBNAILS, VOTES
from toolkit.parts import parts
from toolkit.places import readable
from toolkit.schema import conform
from toolkit.store.faults import Fault
from toolkit.store.labels import LABELS
from toolkit.store.layout import Store
from toolkit.store.scores import SCORES
from toolkit.store.verdicts import VERDICTS
from toolkit.trajectory import TRAJECTORY

ASIDE = "aside"
"""Where `repair` moves what is bad."""

TABLES = {
    "pairs": PAIRS,
    "images": IMAGES,
    "thumbnails": THUMBNAILS,
    "votes": VOTES,
    "quarantine": QUARANTINE,
    "verdicts": VERDICTS,
}
"""The tables of a store, with the schemas that their parts must have."""


def part_files(store: Store) -> Iterator[tuple[Path, pa.Schema | None]]:
    """Every Parquet file of the layout, with the schema that it must have."""
    for name, schema in TABLES.items():
        yield from ((file, schema) for file in parts(store.folder(name)))
    yield from ((file, LABELS) for file in sorted(store.folder("labels").glob("*.parquet")))
    for run in store.runs():
        found = sorted(store.run(run).glob("trajectory/rank-*/part-*.parquet"))
        yield from ((file, TRAJECTORY) for file in found)
    yield from ((file, SCORES) for file in sorted(store.folder("scores").glob("*/*.parquet")))
    yield from ((file, None) for file in sorted(store.folder("findings").glob("*/*.parquet")))


def part_fault(file: Path, schema: pa.Schema | None, bytes_too: bool) -> Fault | None:
    """Read a whole part, page by page against its checksums, a row group at a time."""
    again = "move it aside with --repair, then ingest the source again"
    if file.parent.name in ("labels",) or {"findings", "scores"} & set(file.parts):
        again = "move it aside with --repair, then make it again"
    elif "trajectory" in file.parts or file.parent.name == "verdicts":
        again = "restore it from a copy, or move it aside with --repair"
    try:
        with pq.ParquetFile(readable(file), page_checksum_verification=True) as opened:
            names = None if bytes_too else [n for n in opened.schema_arrow.names if n != "bytes"]
            for group in range(opened.num_row_groups):
                table = opened.read_row_group(group, columns=names)
                if schema is not None:
                    conform(table, schema)
                if schema is IMAGES and bytes_too and (wrong := _unlike_hash(table)):
                    what = f"{file}: image {wrong} is not the bytes that were ingested"
                    return Fault(what, again, (file,))
    except KeyError as problem:
        return Fault(f"{file} lacks the column {problem.args[0]}", again, (file,))
    except (pa.ArrowException, OSError) as problem:
        why = str(problem).splitlines()[0]
        return Fault(f"{file} cannot be read ({why})", again, (file,))
    return None


def _unlike_hash(images: pa.Table) -> str | None:
    """The first image whose bytes do not have the hash that stands beside them."""
    columns = (images[name].to_pylist() for name in ("image_id", "content_hash", "bytes"))
    for image_id, told, data in zip(*columns, strict=True):
        if data is not None and told is not None and content_hash(data) != told:
            return str(image_id)
    return None


def leftovers(store: Store) -> list[Fault]:
    """What killed writers left, as one fault."""
    left = [file for file in store.unfinished() if ASIDE not in file.relative_to(store.root).parts]
    if not left:
        return []
    what = f"{len(left)} unfinished files of killed writers ({left[0]} and so on)"
    return [Fault(what, "nothing reads them; move them aside with --repair", tuple(left))]
