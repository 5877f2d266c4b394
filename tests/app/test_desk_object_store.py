"""The desk opens a store that lies in an object store; its journal is on this machine's disk."""

import uuid

import pyarrow as pa

from app.desk.queries.connection import open_desk
from app.desk.views.getting_started import summarize
from tests.factories import StoreFactory
from toolkit.files.remote import place
from toolkit.store.connection import read_pairs
from toolkit.store.queue.tables import card
from toolkit.store.queue.views import View
from toolkit.store.runs import write_findings


def test_a_queue_and_its_cards_come_from_an_object_store(tmp_path):
    store = StoreFactory(place(f"memory://desk/{uuid.uuid4().hex}"))(pairs=8, run=True, visits=2)
    ids = read_pairs(store, ["pair_id"])[0].to_pylist()
    scores = {name: [k / 10 for k in range(8)] for name in ("confidence", "stability", "minority")}
    finding = pa.table({"pair_id": ids, "visits": [2] * 8, **scores})
    write_findings(store, "r", "minority", finding, {"labels": "flip20"})

    opened = open_desk(store, "r", tmp_path / "verdicts.sqlite")
    assert open_desk(store, "r", tmp_path / "verdicts.sqlite") is opened
    assert opened.pairs == 8
    cursor = opened.cursor(View())
    assert card(cursor, ids[3])["pair_id"] == ids[3]
    assert summarize(store).totals["pairs"] == 8
    assert (tmp_path / "verdicts.sqlite").exists()
