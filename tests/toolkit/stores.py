"""What tests of ways in and out ask of a store."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from toolkit.files.atomic import parts
from toolkit.store import Store


def rows(store: Store, name: str) -> list[dict]:
    """Every row of a table, in the order of its parts."""
    tables = [pq.read_table(file) for file in parts(store.folder(name))]
    return pa.concat_tables(tables, promote_options="permissive").to_pylist() if tables else []


def snapshot(store: Store) -> dict[str, bytes]:
    """Every file of the store with its bytes."""
    files = [p for p in store.root.rglob("*") if p.is_file()]
    return {str(p): p.read_bytes() for p in files}


def votes_of(store: Store, pair_id: str) -> dict[str | None, float]:
    """annotator: choice."""
    found = [vote for vote in rows(store, "votes") if vote["pair_id"] == pair_id]
    return {vote["annotator"]: vote["choice"] for vote in found}


def write_image(path: Path, colour: tuple[int, int, int], side: int = 12) -> bytes:
    """A flat square file, JPEG or PNG by its suffix; its bytes."""
    out = io.BytesIO()
    kind = "PNG" if path.suffix == ".png" else "JPEG"
    Image.new("RGB", (side, side), colour).save(out, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())
    return out.getvalue()


def write_arrow(path: Path, table: pa.Table) -> None:
    """One file as `datasets` writes it: an Arrow stream."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=7)
