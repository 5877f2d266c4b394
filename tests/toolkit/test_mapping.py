"""The map: bins hold every pair once, boxes become views, few pairs are dots, many are not."""

import numpy as np
import pyarrow as pa
import pytest

from tests.app.desk_stores import judgeable
from tests.factories import StoreFactory
from toolkit.errors import InputError
from toolkit.store import Store, connect
from toolkit.store.label_sets import planted_flips
from toolkit.store.queue import histograms as mapping
from toolkit.store.queue import views as listing
from toolkit.store.queue.histograms import Bins
from toolkit.store.queue.tables import QueueColumns, make_queue
from toolkit.store.queue.views import View
from toolkit.store.runs import read_findings, write_findings


def ready(store: Store):
    con = connect(store)
    make_queue(con, store, "r")
    return con, QueueColumns(con, store, "r")


def with_corners(store: Store) -> list[str]:
    """A finding `mine` whose a and b are 0 or 1 in a known pattern; the last pair has no b."""
    ids = sorted(read_findings(store, "r", "minority")["pair_id"].to_pylist())
    a = np.array([k % 2 for k in range(len(ids))], float)
    b = np.array([k // 2 % 2 for k in range(len(ids))], float)
    b[-1] = np.nan
    table = pa.table({"pair_id": ids, "a": a, "b": b})
    write_findings(store, "r", "mine", table, {"labels": "flip20"})
    return ids


def test_every_known_pair_is_in_one_bin(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    with_corners(store)
    con, columns = ready(store)
    found = mapping.draw_map(con, columns, View(), "mine.a", "mine.b", bins=4)
    assert found is not None
    assert (found.known, found.missing) == (39, 1)
    # 40 pairs in turns of four corners, the last one (1, 1) without its b.
    assert {(cell.x, cell.y): cell.pairs for cell in found.cells} == {
        (0, 0): 10, (0, 3): 10, (3, 0): 10, (3, 3): 9,
    }  # fmt: skip
    assert found.x.counts == (20, 0, 0, 19)
    assert found.y.counts == (20, 0, 0, 19)
    flips = set(planted_flips(store, "flip20") or [])
    assert found.dots is not None
    changed = {row["pair_id"] for row in found.dots.to_pylist() if row["changed"]}
    assert changed == flips & set(found.dots["pair_id"].to_pylist())
    assert sum(cell.changed for cell in found.cells) == len(changed)


def test_many_pairs_are_bins_and_no_dots(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    con, columns = ready(store)
    monkeypatch.setattr(mapping, "DOTS", 39)
    found = mapping.draw_map(con, columns, View(), "stability", "confidence")
    assert found is not None
    assert found.dots is None
    assert sum(cell.pairs for cell in found.cells) == 40


def test_a_box_becomes_a_view_of_its_pairs(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    ids = with_corners(store)
    con, columns = ready(store)
    drawn = mapping.draw_map(con, columns, View(), "mine.a", "mine.b")
    assert drawn is not None
    sides = {"mine.a": (0.5, 1.2), "mine.b": (-0.1, 0.5)}
    view = mapping.boxed(View(), sides, {"mine.a": drawn.x, "mine.b": drawn.y})
    assert view.range_of("mine.a").lowest == 0.5
    assert view.range_of("mine.a").highest is None  # past the data: a range leaves its end out
    assert view.range_of("mine.b").lowest is None
    assert view.range_of("mine.b").highest == 0.5
    listing.make_view(con, columns, view)
    wanted = {pair for k, pair in enumerate(ids) if k % 2 == 1 and k // 2 % 2 == 0}
    assert set(listing.ids(con, view)) == wanted


def test_a_box_to_the_largest_value_keeps_it() -> None:
    bins = Bins(0.0, 1.0, (1, 1), 0)
    view = mapping.boxed(View(), {"minority": (0.5, 1.0)}, {"minority": bins})
    assert (view.range_of("minority").lowest, view.range_of("minority").highest) == (0.5, None)


def test_the_map_follows_the_view(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    con, columns = ready(store)
    view = View(text="a square number 1")  # of numbers 0 to 9, four pairs each
    found = mapping.draw_map(con, columns, view, "stability", "confidence")
    assert found is not None
    assert found.known == 4


def test_axes_that_make_no_map_are_refused_with_a_sentence(make_store: StoreFactory) -> None:
    con, columns = ready(judgeable(make_store))
    with pytest.raises(InputError, match="no column of numbers 'beauty'"):
        mapping.draw_map(con, columns, View(), "beauty", "minority")
    with pytest.raises(InputError, match="no column of numbers 'prompt'"):
        mapping.draw_map(con, columns, View(), "minority", "prompt")
    with pytest.raises(InputError, match="two different"):
        mapping.draw_map(con, columns, View(), "minority", "minority")


def test_one_value_alone_is_still_a_map(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    ids = read_findings(store, "r", "minority")["pair_id"].to_pylist()
    table = pa.table({"pair_id": ids, "same": [2.0] * 40, "never": [float("nan")] * 40})
    write_findings(store, "r", "flat", table, {"labels": "flip20"})
    con, columns = ready(store)
    found = mapping.draw_map(con, columns, View(), "flat.same", "minority")
    assert found is not None
    assert (found.x.lowest, found.x.highest, found.x.counts[0]) == (2.0, 3.0, 40)
    assert mapping.draw_map(con, columns, View(), "flat.never", "minority") is None
