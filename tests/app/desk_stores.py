"""Stores whose pairs the desk can show: a run with its finding `minority`, from the factory."""

import pyarrow as pa
import pyarrow.parquet as pq

from tests.factories import StoreFactory
from toolkit.files.atomic import parts, write_whole
from toolkit.store import Store, connect
from toolkit.store.connection import add_trajectory, fetch
from toolkit.store.runs import write_findings


def add_finding(store: Store, run: str = "r") -> None:
    """Write the run's finding `minority`: the mean of what training logged."""
    with connect(store) as con:
        add_trajectory(con, store, run)
        table = fetch(
            con,
            "SELECT pair_id, count(*)::INTEGER AS visits, avg(confidence) AS confidence,"
            " avg(stability) AS stability, avg(minority) AS minority FROM trajectory GROUP BY ALL",
        )
    write_findings(store, run, "minority", table, {"labels": "flip20"})


def judgeable(
    make: StoreFactory,
    *,
    pairs: int = 40,
    name: str = "store",
    prompt: str | None = None,
    label: float | None = None,
    broken: bool = False,
) -> Store:
    """A store ready for the Queue; one prompt or label for all, or every image broken, on request.

    With a label for all, the finding is held against `original`.
    """
    store = make(pairs=pairs, run=True, name=name)
    add_finding(store)
    if prompt is not None:
        _overwrite(store, "pairs", "prompt", prompt)
    if label is not None:
        _overwrite(store, "pairs", "label", label)
        for overlay in store.folder("labels").glob("*.parquet"):
            write_whole(overlay, pq.read_table(overlay).slice(0, 0))
    if broken:
        _overwrite(store, "images", "bytes", b"no image at all")
    return store


def _overwrite(store: Store, table: str, column: str, value: object) -> None:
    for part in parts(store.folder(table)):
        rows = pq.read_table(part)
        at = rows.schema.get_field_index(column)
        field = rows.schema.field(at)
        filled = pa.array([value] * rows.num_rows, field.type)
        write_whole(part, rows.set_column(at, field, filled), row_group_size=100)
