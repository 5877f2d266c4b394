"""The page Pair: a link opens it, and a verdict can be given and taken back there."""

from pathlib import Path

import pytest

from tests.app.desk_pages import card, component, journalled, open_page, press, send, shown, verdict
from tests.app.desk_stores import judgeable
from tests.factories import StoreFactory
from tests.toolkit.public_shapes import editreward_data
from toolkit.ingest import ingest
from toolkit.store import create_store
from toolkit.store.connection import effective_labels, read_pairs
from toolkit.store.journal import Entry, Journal
from toolkit.store.label_sets import planted_flips
from toolkit.store.pseudonyms import exported_ids
from toolkit.store.scores import write_scores


def test_a_link_opens_its_pair_with_all_that_is_known_of_it(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    flipped = (planted_flips(store, "flip20") or [])[0]
    (exported,) = exported_ids(store)([flipped])  # as a report or an export names it
    app = open_page(monkeypatch, store, "pair", query={"pair": exported})
    said = shown(app)
    assert f"<code>{flipped}</code>" in said
    assert "6 visits, 0 probes" in said
    assert "minority" in said
    assert "annotator-" in said
    assert "flip20" in said
    assert "a square number" in said


def test_verdicts_are_given_and_taken_back_with_reasons_and_a_note(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    pair_id = effective_labels(store)["pair_id"][3].as_py()
    label = effective_labels(store, "flip20")["label"][3].as_py()
    app = open_page(monkeypatch, store, "pair", query={"pair": pair_id})
    app = send(app, verdict(app, "Flip", note="both are squares"))
    (row,) = journalled(store)
    assert (row["pair_id"], row["curator"], row["label_set"]) == (pair_id, "anna", "flip20")
    assert row["choice"] == ("image_1" if label == 1 else "image_0")
    assert row["note"] == "both are squares"
    assert row["shown"]["page"] == "pair"
    assert "both are squares" in shown(app)
    assert card(app)["note"] == "both are squares"
    app = press(app, "Undo")
    assert [row["choice"] for row in journalled(store)][1] == "undo"
    assert "no verdict yet" in shown(app)
    assert "(undone)" in shown(app)
    assert component(app)["undo"] is None


def test_the_history_names_every_curator(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    pair_id = effective_labels(store)["pair_id"][0].as_py()
    journal = Journal(store.folder("verdicts.sqlite"))
    journal.record([Entry(pair_id, "berta", "tie"), Entry(pair_id, "carl", "drop")])
    journal.close()
    said = shown(open_page(monkeypatch, store, "pair", query={"pair": pair_id}))
    assert "berta" in said
    assert "carl" in said
    assert "2 curators, who differ" in said


def test_an_unknown_pair_is_a_sentence_and_a_field_for_another(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    app = open_page(monkeypatch, store, "pair", query={"pair": "nobody"})
    assert "The store has no pair 'nobody'" in shown(app)
    there = effective_labels(store)["pair_id"][5].as_py()
    app.text_input[0].set_value(there).run()
    assert f"<code>{there}</code>" in shown(app)


def test_scorers_stand_beside_the_label_that_the_run_was_held_against(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    flipped = (planted_flips(store, "flip20") or [])[0]
    (pair,) = [row for row in read_pairs(store, NEEDED).to_pylist() if row["pair_id"] == flipped]
    chosen = {pair["image_0"]: pair["label"], pair["image_1"]: 1 - pair["label"]}
    about = {"scorer": "eyes", "version": "1", "preprocessing": "none", "dtype": "float32"}
    rows = [{**about, "image_id": image, "score": score} for image, score in chosen.items()]
    write_scores(store, "eyes", rows)
    write_scores(store, "half", [{**rows[0], "scorer": "half"}])
    said = shown(open_page(monkeypatch, store, "pair", query={"pair": flipped}))
    assert "Scorers" in said
    assert "disagrees" in said  # the source's label, which was flipped
    assert "not scored yet" in said


NEEDED = ["pair_id", "image_0", "image_1", "label"]


def test_the_image_that_both_sides_edit_is_shown_beside_its_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editreward_data(tmp_path)
    store = create_store(tmp_path / "s")
    ingest(store, "pairwise", tmp_path / "data")
    app = open_page(monkeypatch, store, "pair")
    assert "The image that both sides edit" in [fold.label for fold in app.expander]
    assert 'alt="The image that both sides edit"' in shown(app)
