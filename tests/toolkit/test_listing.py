"""Views numbered over a queue: what passes, in which order, by hand; pages skip and repeat none."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import StoreFactory
from toolkit.errors import InputError
from toolkit.files.atomic import parts, write_whole
from toolkit.store import Store, connect
from toolkit.store.connection import Connection, fetch, read_pairs
from toolkit.store.queue import views as listing
from toolkit.store.queue.histograms import spread, spread_of
from toolkit.store.queue.tables import ORDERS, QueueColumns, card, make_queue, update_verdicts
from toolkit.store.queue.views import View
from toolkit.store.runs import start_run, write_findings
from toolkit.store.scores import write_scores


class Listed:
    """20 pairs p0 ... p19 by id: u = .05 k, c = .5, and a finding `other` with score 19 - k."""

    def __init__(self, con: Connection, ids: list[str], columns: QueueColumns) -> None:
        self.con, self.ids, self.columns = con, ids, columns

    def numbers(self, view: View) -> list[int]:
        """The numbers k of the view's pairs, in order."""
        listing.make_view(self.con, self.columns, view)
        return [self.ids.index(pair) for pair in listing.ids(self.con, view)]

    def judge(self, verdicts: dict[int, str], differ: tuple[int, ...] = ()) -> None:
        """Give these pairs a verdict: a preference with or against their labels, or a word."""
        labels = dict(self.con.execute("SELECT pair_id, label FROM facts").fetchall())
        pairs = [self.ids[k] for k in verdicts]
        rows = []
        for (k, verdict), pair in zip(verdicts.items(), pairs, strict=True):
            sides = {"keep": ("image_1", "image_0"), "flip": ("image_0", "image_1")}
            choice = sides[verdict][int(labels[pair])] if verdict in sides else verdict
            rows.append(resolved(pair, choice, 2 if k in differ else 1, differ=k in differ))
        update_verdicts(self.con, pairs, rows)


def resolved(pair: str, choice: str, curators: int = 1, *, differ: bool = False) -> dict[str, Any]:
    """A row of RESOLVED."""
    facts = {"verdict_id": f"of {pair}", "curators": curators, "split": False, "differ": differ}
    return {"pair_id": pair, "choice": choice, **facts}


@pytest.fixture
def listed(make_store: StoreFactory) -> Iterator[Listed]:
    store: Store = make_store(pairs=20)
    ids = sorted(read_pairs(store, ["pair_id"])[0].to_pylist())
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, "")
    u = [k / 20 for k in range(20)]
    half = np.full(20, 0.5)
    scores = {"visits": np.arange(20, dtype=np.int32), "confidence": half, "stability": half}
    write_findings(store, "r", "minority", pa.table({"pair_id": ids, **scores, "minority": u}), {})
    other = [float("nan") if k == 3 else 19.0 - k for k in range(20)]
    write_findings(store, "r", "other", pa.table({"pair_id": ids[::-1], "score": other[::-1]}), {})
    aligned = pa.table({"pair_id": ids, "score": pa.array([*u[:19], None])})
    write_findings(store, "r", "aligned", aligned, {})
    foreign = pa.table({"pair_id": ids, "score": u})
    write_findings(store, "r", "foreign", foreign, {"labels": "flip20"})
    with connect(store) as con:
        make_queue(con, store, "r")
        yield Listed(con, ids, QueueColumns(con, store, "r"))


def test_the_highest_u_comes_first_and_every_pair_is_there(listed: Listed) -> None:
    assert listed.numbers(View()) == list(range(19, -1, -1))
    assert listed.numbers(View(descending=False)) == list(range(20))


def test_any_findings_column_orders_and_unknown_ones_come_last(listed: Listed) -> None:
    expected = [0, 1, 2, *range(4, 20), 3]
    assert listed.numbers(View(order="other.score")) == expected
    assert listed.numbers(View(order="other.score", descending=False))[-1] == 3


def test_a_finding_in_the_same_order_says_the_same(listed: Listed) -> None:
    assert listed.numbers(View(order="aligned.score")) == [*range(18, -1, -1), 19]
    view = View(descending=False).with_range("aligned.score", 0.2, 0.4)
    assert listed.numbers(view) == [4, 5, 6, 7]


def test_the_queues_own_scores_can_be_named_in_full(listed: Listed) -> None:
    assert listed.numbers(View(order="minority.minority")) == list(range(19, -1, -1))
    view = View(order="minority.visits", descending=False).with_range("minority.minority", 0.2, 0.4)
    assert listed.numbers(view) == [4, 5, 6, 7]


def test_ranges_hold_their_lower_end_and_not_their_upper(listed: Listed) -> None:
    view = View(descending=False).with_range("minority", 0.2, 0.4)
    assert listed.numbers(view) == [4, 5, 6, 7]
    assert listed.numbers(view.with_range("other.score", 14, None)) == [4, 5]


def test_a_condition_names_findings_and_pairs(listed: Listed) -> None:
    view = View(where="other.score < 3 and visits != 18 and votes = 1", descending=False)
    assert listed.numbers(view) == [17, 19]
    assert listed.numbers(View(where='source = "elsewhere"')) == []


def test_words_of_the_prompt_and_the_annotator_narrow(listed: Listed) -> None:
    prompts = dict(fetch(listed.con, "SELECT pair_id, prompt FROM facts").to_pydict().items())
    wanted = {i for i, p in zip(prompts["pair_id"], prompts["prompt"], strict=True) if "r 3" in p}
    found = listed.numbers(View(text="NUMBER 3"))
    assert {listed.ids[k] for k in found} == wanted
    assert len(found) == 4
    assert len(listed.numbers(View(annotator="annotator-2"))) == 4


@pytest.mark.parametrize("size", [1, 7, 50])
def test_pages_by_key_give_every_pair_once_forwards_and_backwards(
    listed: Listed, size: int
) -> None:
    listed.judge({4: "keep", 9: "flip", 19: "drop"})
    for state in ("any", "open", "judged"):
        view = View(state=state)
        expected = [listed.ids[k] for k in listed.numbers(view)]
        seen: list[str] = []
        at = 0
        while rows := listing.rows_of_page(listed.con, view, at, size):
            seen += [pair for _, pair in rows]
            at = rows[-1][0]
        assert seen == expected
        back: list[str] = []
        at = 10**9
        while rows := listing.rows_of_page(listed.con, view, at, size, back=True):
            back = [pair for _, pair in rows] + back
            at = rows[0][0]
        assert back == expected


def test_states_of_verdict_narrow_the_same_numbers(listed: Listed) -> None:
    listed.judge({4: "keep", 9: "flip", 19: "unsure"}, differ=(19,))
    states: dict[str, Any] = {
        "judged": [19, 9, 4],
        "keep": [4],
        "flip": [9],
        "unsure": [19],
        "differ": [19],
        "tie": [],
    }
    for state, expected in states.items():
        assert listed.numbers(View(state=state)) == expected, state
    assert len(listed.numbers(View(state="open"))) == 17
    assert listing.place(listed.con, View(state="judged"), listed.ids[9]) == 2
    assert listing.place(listed.con, View(state="open"), listed.ids[9]) is None
    assert listing.open_pairs(listed.con, View(), 0, 2) == [listed.ids[18], listed.ids[17]]


def test_a_view_that_names_a_verdict_moves_with_it(listed: Listed) -> None:
    view = View(where='verdict = "keep"')
    assert listing.moves(view)
    assert not listing.moves(View(where="minority > 0.5"))
    assert listed.numbers(view) == []
    listed.judge({4: "keep"})
    listing.drop_view(listed.con, view)
    listing.drop_pool(listed.con, listed.columns, view)
    assert listed.numbers(view) == [4]


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (View(order="beauty"), "no column of numbers 'beauty'"),
        (View(order="prompt"), "no column of numbers 'prompt'"),
        (View(order="foreign.score"), "no column of numbers"),
        (View().with_range("beauty", 1, 2), "no column of numbers 'beauty'"),
        (View(where="beauty > 1"), "names the column 'beauty'"),
        (View(where="minority >"), "is no comparison"),
    ],
)
def test_a_view_of_what_is_not_there_is_a_sentence(listed: Listed, view: View, words: str) -> None:
    with pytest.raises(InputError, match=words):
        listing.make_view(listed.con, listed.columns, view)


def test_a_histogram_counts_every_pair_and_a_views_pairs_in_the_same_bins(
    listed: Listed,
) -> None:
    whole = spread(listed.con, listed.columns, "minority", 4)  # u = 0, .05 ... .95
    assert (whole.lowest, whole.highest, whole.unknown) == (0.0, 0.95, 0)
    assert whole.counts == (5, 5, 5, 5)
    view = View(where="visits >= 3").with_range("other.score", 5, None)  # k = 4 ... 14
    shown = spread_of(listed.con, listed.columns, view, "minority", whole)
    assert shown.counts == (1, 5, 5, 0)
    bounded = view.with_range("minority", 0.5, None)  # its own bounds leave the bars beside
    assert spread_of(listed.con, listed.columns, bounded, "minority", whole) == shown


def test_equal_scores_come_by_id_and_unknown_ones_last_page_by_page(
    make_store: StoreFactory,
) -> None:
    store = make_store(pairs=12)
    ids = sorted(read_pairs(store, ["pair_id"])[0].to_pylist())
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, "")
    u = [0.25, 0.5, float("nan"), None, 0.5, 0.25, 0.5, 0.25, 0.5, 0.25, 0.5, 0.25]
    half = np.full(12, 0.5)
    scores = {"visits": np.arange(12, dtype=np.int32), "confidence": half, "stability": half}
    write_findings(store, "r", "minority", pa.table({"pair_id": ids, **scores, "minority": u}), {})
    with connect(store) as con:
        make_queue(con, store, "r")
        columns = QueueColumns(con, store, "r")
        listing.make_view(con, columns, View())
        seen: list[str] = []
        at = 0
        while rows := listing.rows_of_page(con, View(), at, 5):
            seen += [pair for _, pair in rows]
            at = rows[-1][0]
        bins = spread(con, columns, "minority", 2)
    assert [ids.index(pair) for pair in seen] == [1, 4, 6, 8, 10, 0, 5, 7, 9, 11, 2, 3]
    assert (bins.counts, bins.unknown) == ((0, 10), 2)


def test_a_column_without_values_has_empty_bins(make_store: StoreFactory) -> None:
    store = make_store(pairs=8)
    with connect(store) as con:
        make_queue(con, store)
        bins = spread(con, QueueColumns(con, store), "minority", 4)
    assert (bins.counts, bins.unknown) == ((0, 0, 0, 0), 8)


def test_equal_scores_come_in_the_order_of_the_finding(make_store: StoreFactory) -> None:
    """Which analyze writes by id; a finding of somebody else's keeps its own."""
    store = make_store(pairs=4)
    ids = sorted(read_pairs(store, ["pair_id"])[0].to_pylist(), reverse=True)
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, "")
    scores = {name: [0.5] * 4 for name in ORDERS}
    finding = pa.table({"pair_id": ids, "visits": pa.array([1] * 4, pa.int32()), **scores})
    write_findings(store, "r", "minority", finding, {})
    with connect(store) as con:
        make_queue(con, store, "r")
        columns = QueueColumns(con, store, "r")
        for view in (View(), View(order="confidence", descending=False)):
            listing.make_view(con, columns, view)
            assert listing.ids(con, view) == ids


def test_scores_that_a_finding_lacks_are_unknown_and_the_others_order(
    make_store: StoreFactory,
) -> None:
    """As `ingest released-npy` leaves it: pair_id, visits and one column."""
    store = make_store(pairs=4)
    ids = sorted(read_pairs(store, ["pair_id"])[0].to_pylist())
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, "")
    visits = pa.array([3, 1, 2], pa.int32())
    finding = pa.table({"pair_id": ids[:3], "visits": visits, "minority": [0.25, 0.75, 0.5]})
    write_findings(store, "r", "minority", finding, {})
    with connect(store) as con:
        assert make_queue(con, store, "r") == 3
        columns = QueueColumns(con, store, "r")
        listing.make_view(con, columns, View())
        assert listing.ids(con, View()) == [ids[1], ids[2], ids[0]]
        first = card(con, ids[1])
        assert first is not None
        told = {name: first[name] for name in ("visits", "minority", "confidence", "stability")}
        assert told == {"visits": 1, "minority": 0.75, "confidence": None, "stability": None}
        assert first["lower"] == {"minority": 2 / 3, "confidence": None, "stability": None}
        view = View(where="confidence is null and minority > 0.3")
        listing.make_view(con, columns, view)
        assert listing.count(con, view) == 2


def test_without_a_run_every_pair_is_listed_by_its_id(make_store: StoreFactory) -> None:
    store = make_store(pairs=8)
    with connect(store) as con:
        assert make_queue(con, store) == 8
        columns = QueueColumns(con, store)
        listing.make_view(con, columns, View())
        expected = sorted(read_pairs(store, ["pair_id"])[0].to_pylist())
        assert listing.ids(con, View()) == expected
        listing.make_view(con, columns, View(where="label = 1"))
        assert 0 < listing.count(con, View(where="label = 1")) < 8


def test_numbers_that_are_made_anew_are_never_missing_to_another_reader(listed: Listed) -> None:
    view = View(where="not differ")
    listing.make_view(listed.con, listed.columns, view)
    reader, stop, counts = listed.con.cursor(), threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            counts.add(listing.count(reader, view))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for k in range(60):
            listed.judge({k % 20: "drop"}, differ=(k % 20,) if k < 20 else ())
            listing.make_view(listed.con, listed.columns, view, refresh=True)
        stop.set()
        reading.result()  # raises what the reader met
    assert len(counts) > 1
    assert listed.numbers(view) == list(range(19, -1, -1))


def test_a_source_column_called_like_our_number_is_named_in_full(make_store: StoreFactory) -> None:
    store = make_store(pairs=3)
    (part,) = parts(store.folder("pairs"))
    table = pq.read_table(part)
    write_whole(part, table.append_column("src_nth", pa.array([98, 99, 100], pa.int64())))
    with connect(store) as con:
        make_queue(con, store)
        columns = QueueColumns(con, store)
        assert "nth" not in columns
        view = View(where="src_nth > 98")
        listing.make_view(con, columns, view)
        assert listing.count(con, view) == 2


def test_a_pair_outside_the_finding_has_a_card_without_scores(make_store: StoreFactory) -> None:
    store = make_store(pairs=4)
    ids = sorted(read_pairs(store, ["pair_id"])[0].to_pylist())
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, "")
    scores = {name: [0.1, 0.2, 0.3] for name in ORDERS}
    finding = pa.table({"pair_id": ids[:3], "visits": pa.array([1, 1, 1], pa.int32()), **scores})
    write_findings(store, "r", "minority", finding, {})
    with connect(store) as con:
        assert make_queue(con, store, "r") == 3
        outside = card(con, ids[3])
        assert outside is not None
        assert (outside["nth"], outside["minority"]) == (None, None)
        update_verdicts(con, [ids[3]], [resolved(ids[3], "tie")])
        listing.make_view(con, QueueColumns(con, store, "r"), View())
        assert listing.count_judged(con, View()) == 0
        judged = card(con, ids[3])
        assert judged is not None
        assert judged["verdict"] == "tie"
        assert listing.position(con, View(), ids[3]) is None


def test_a_scorers_gap_narrows_and_orders_and_its_absence_is_unknown(
    make_store: StoreFactory,
) -> None:
    """Image k of eight has score k, but for one: gaps are image_0 less image_1, by hand."""
    store = make_store(pairs=4)
    pairs = read_pairs(store, ["pair_id", "image_0", "image_1"]).to_pylist()
    about = {"scorer": "s", "version": "1", "preprocessing": "none", "dtype": "float32"}
    left = {row["image_0"]: float(k) for k, row in enumerate(pairs)}
    right = {row["image_1"]: 1.5 for row in pairs[1:]}
    rows = [{**about, "image_id": image, "score": s} for image, s in {**left, **right}.items()]
    write_scores(store, "s", rows)
    ids = [row["pair_id"] for row in pairs]
    with connect(store) as con:
        make_queue(con, store)
        columns = QueueColumns(con, store)
        worst = View(order="s.gap", descending=False)
        listing.make_view(con, columns, worst)
        assert listing.ids(con, worst) == [ids[1], ids[2], ids[3], ids[0]]  # -.5, .5, 1.5, unknown
        above = View(where="s.gap > 0")
        listing.make_view(con, columns, above)
        assert set(listing.ids(con, above)) == {ids[2], ids[3]}


def test_a_verdict_that_was_taken_back_leaves_the_pair_open(listed: Listed) -> None:
    listed.judge({4: "keep", 9: "flip"})
    assert listed.numbers(View(state="judged")) == [9, 4]
    update_verdicts(listed.con, [listed.ids[9]], [])
    assert listed.numbers(View(state="judged")) == [4]
    assert listed.numbers(View(state="keep")) == [4]
