"""Samples for audits: drawn by seed, kept, and gone on with."""

import pytest

from tests.app.desk_stores import judgeable
from tests.factories import StoreFactory
from toolkit.errors import InputError, StoreError
from toolkit.store import Store, connect
from toolkit.store.audits import Audit, audits, draw_audit, keep_audit, read_audit
from toolkit.store.queue.tables import make_queue
from toolkit.store.runs import read_findings


def drawn(store: Store, *, size: int = 5, share: float = 0.25, seed: int = 0) -> Audit:
    with connect(store) as con:
        make_queue(con, store, "r")
        return draw_audit(con, "r", "flip20", size=size, share=share, seed=seed)


def test_the_top_arm_comes_from_the_largest_u(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    rows = read_findings(store, "r", "minority").to_pylist()
    by_u = [row["pair_id"] for row in sorted(rows, key=lambda row: -row["minority"])]
    audit = drawn(store)
    assert len(audit.top) == len(audit.random) == 5
    assert set(audit.top) <= set(by_u[:10])  # a quarter of 40
    assert not set(audit.random) <= set(by_u[:10])
    assert sorted(audit.order) == sorted({*audit.top, *audit.random})


def test_the_same_seed_draws_the_same_sample_and_another_another(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    assert drawn(store) == drawn(store)
    assert drawn(store).random != drawn(store, seed=1).random


def test_asking_for_more_than_there_is_gives_all(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    audit = drawn(store, size=1000)
    assert len(audit.random) == len(audit.order) == 40
    rows = read_findings(store, "r", "minority").to_pylist()
    by_u = [row["pair_id"] for row in sorted(rows, key=lambda row: -row["minority"])]
    assert set(audit.top) == set(by_u[:10])  # a quarter, and no pair beneath it
    assert len(drawn(store, size=1000, share=1.0).top) == 40


def test_a_kept_sample_is_never_drawn_anew(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    first = keep_audit(store, drawn(store))
    other = Audit(first.name, "r", "flip20", 0, 0.25, ("a",), ("b",), ("a", "b"))
    assert keep_audit(store, other) == first
    assert read_audit(store, first.name) == first
    assert audits(store) == [first.name]


def test_another_share_or_label_set_is_another_sample(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    first = keep_audit(store, drawn(store))
    second = keep_audit(store, drawn(store, share=0.05))
    assert second.share == 0.05
    assert first.name != second.name
    assert len(audits(store)) == 2


def test_what_cannot_be_drawn_or_read_is_a_sentence(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    with pytest.raises(InputError, match="at least one pair an arm"):
        drawn(store, size=0)
    with pytest.raises(InputError, match="share above 0"):
        drawn(store, share=0.0)
    with pytest.raises(StoreError, match="cannot be read"):
        read_audit(store, "absent")
    with pytest.raises(InputError, match="cannot name a sample"):
        read_audit(store, "../secret")
    store.folder("audits").mkdir()
    store.folder("audits", "broken.json").write_text('{"name": "broken"}')
    with pytest.raises(StoreError, match="draw another"):
        read_audit(store, "broken")


def test_pairs_without_a_preference_are_not_audited(make_store: StoreFactory) -> None:
    store = judgeable(make_store, label=0.5)
    with pytest.raises(InputError, match="nothing to audit"):
        drawn(store)
