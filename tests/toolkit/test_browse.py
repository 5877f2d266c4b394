"""A queue under a condition: counts by hand, and pages that neither skip nor repeat a pair."""

import numpy as np
import pyarrow as pa
import pytest

from toolkit.errors import InputError
from toolkit.store import Store, connect
from toolkit.store.browse import end_of, filtered_histogram, page
from toolkit.store.desk import make_queue
from toolkit.store.query import read_pairs
from toolkit.store.runs import start_run, write_findings


@pytest.fixture
def queued(make_store):
    """40 pairs: u = 0, .1 ... .9 four times over (ties), the last two unknown."""
    store: Store = make_store(pairs=40)
    ids = sorted(read_pairs(store, ["pair_id"])[0].to_pylist())
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, "")
    u = [k % 10 / 10 for k in range(38)] + [None, None]
    table = pa.table(
        {
            "pair_id": ids,
            "visits": np.arange(40, dtype=np.int32),
            "confidence": np.full(40, 0.5, np.float32),
            "stability": np.full(40, 0.1, np.float32),
            "minority": pa.array(u, pa.float64()),
        }
    )
    write_findings(store, "r", "minority", table, {})
    with connect(store) as con:
        make_queue(con, store, "r")
        yield con, dict(zip(ids, u, strict=True))


def test_the_histogram_counts_what_passes_over_the_whole_range(queued):
    con, _ = queued
    bins = filtered_histogram(con, number=10)
    assert (bins.counts, bins.unknown) == ((4, 4, 4, 4, 4, 4, 4, 4, 3, 3), 2)
    bins = filtered_histogram(con, "visits < 20 and minority >= 0.5", number=10)
    assert (bins.counts, bins.unknown) == ((0, 0, 0, 0, 0, 2, 2, 2, 2, 2), 0)
    assert (bins.lowest, bins.highest) == (0.0, 0.9)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pages_by_key_give_every_pair_once_in_order(queued, size):
    con, u = queued
    seen: list[str] = []
    key = None
    while (rows := page(con, after=key, size=size)).num_rows:
        seen += rows["pair_id"].to_pylist()
        key = end_of(rows)
    expected = sorted(u, key=lambda i: (u[i] is None, -(u[i] or 0), i))
    assert seen == expected


def test_a_page_holds_what_passes_only(queued):
    con, u = queued
    rows = page(con, "minority > 0.7 and visits < 10", size=50)
    assert rows["minority"].to_pylist() == [0.9, 0.8]
    assert page(con, "minority is null").num_rows == sum(value is None for value in u.values())
    with pytest.raises(InputError, match="names the column 'beauty'"):
        page(con, "beauty > 1")
