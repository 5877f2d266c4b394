"""Tables that say which side won, in the shapes of public sets: labels are those of the file."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from app.cli.ingest import app
from tests.toolkit.public_shapes import (
    diffusers_dpo,
    editreward_data,
    genai_bench,
    image_of,
    label_studio,
)
from tests.toolkit.stores import rows, snapshot, votes_of
from toolkit.errors import InputError
from toolkit.image_files import content_hash
from toolkit.ingest import Summary, ingest, open_source
from toolkit.store import Store, create_store
from toolkit.store.images import ImageReader


def take_in(folder: Path, table: list[dict] | pa.Table, **options: Any) -> tuple[Store, Summary]:
    file = folder / "table.parquet"
    pq.write_table(table if isinstance(table, pa.Table) else pa.Table.from_pylist(table), file)
    store = create_store(folder / "s")
    return store, ingest(store, "pairwise", file, **options)


def names_only(words: list[Any], column: str = "vote_type") -> pa.Table:
    count = len(words)
    return pa.table(
        {
            "prompt": [f"p{k}" for k in range(count)],
            "left_image": [f"l{k}" for k in range(count)],
            "right_image": [f"r{k}" for k in range(count)],
            column: words,
        }
    )


def labels(store: Store, column: str = "label") -> list[float | None]:
    return [pair[column] for pair in rows(store, "pairs")]


def axis(store: Store, name: str) -> dict[str, float]:
    """prompt: label."""
    prompts = {pair["pair_id"]: pair["prompt"] for pair in rows(store, "pairs")}
    return {prompts[a["pair_id"]]: a["label"] for a in rows(store, "axes") if a["axis"] == name}


def test_the_diffusers_scripts_four_columns_come_in_with_every_side_right(tmp_path):
    """Read as chosen and rejected, each of the 89 rows whose second image won was wrong."""
    truth = diffusers_dpo(tmp_path)
    assert sum(label == 0 for label in truth.labels.values()) == 89
    store = create_store(tmp_path / "s")
    assert ingest(store, "pairwise", tmp_path / "train.parquet").images == 350
    for k, pair in enumerate(rows(store, "pairs")):
        assert (pair["prompt"], pair["label"]) == (f"number {k}", truth.labels[f"number {k}"])
        assert pair["image_0"] == content_hash(image_of(k, 0))
        assert pair["image_1"] == content_hash(image_of(k, 1))
    before = snapshot(store)
    assert ingest(store, "pairwise", tmp_path / "train.parquet").duplicate == 175
    assert snapshot(store) == before


def test_both_bad_is_kept_apart_from_a_tie(tmp_path):
    genai_bench(tmp_path)
    store = create_store(tmp_path / "s")
    ingest(store, "pairwise", tmp_path / "image_generation")
    assert labels(store) == [1.0, 0.0, 0.5, 0.5]
    pairs = rows(store, "pairs")
    assert (pairs[0]["src_model_0"], pairs[0]["src_model_1"]) == ("SDXL", "PixArtAlpha")
    votes = rows(store, "votes")
    assert [vote["both_are"] for vote in votes] == [None, None, None, "bad"]
    assert {vote["annotator"] for vote in votes} == {None}


@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_the_image_that_both_sides_edit_is_kept_beside_the_pair(tmp_path, mode):
    editreward_data(tmp_path)
    store = create_store(tmp_path / "s")
    summary = ingest(store, "pairwise", tmp_path / "data", images=mode)
    assert summary.images == 6
    for k, pair in enumerate(rows(store, "pairs")):
        assert ImageReader(store).read(pair["src_source_image"]) == image_of(k, 2)
    before = snapshot(store)
    assert ingest(store, "pairwise", tmp_path / "data", images=mode).images == 0
    assert snapshot(store) == before


def test_an_edited_image_that_cannot_be_read_is_counted_and_its_pair_stays(tmp_path):
    row = {"prompt": "p", "image_0": image_of(0, 0), "image_1": image_of(0, 1), "choice": "left"}
    made = [row | {"source_image": b"broken"}, row | {"source_image": None, "prompt": "q"}]
    store, summary = take_in(tmp_path, made)
    assert [pair.get("src_source_image") for pair in rows(store, "pairs")] == [None, None]
    assert "1 images beside pairs could not be read" in summary.lines()


def test_votes_that_a_command_leaves_unread_are_named(tmp_path):
    table = names_only(["leftvote"]).append_column("left_overall_score", pa.array([1.0]))
    _, summary = take_in(tmp_path, table, names_only=True)
    assert "not read as votes, only kept as columns: left_overall_score" in summary.lines()[-1]


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["left", "Right", " both bad "], [1, 0, 0.5]),
        (["a", "b", "same"], [1, 0, 0.5]),
        ([1, -1, 0], [1, 0, 0.5]),
        ([1.0, -1.0, None], [1, 0, None]),
        (["1", "2", ""], [1, 0, None]),
        (["image_0", "image_1", "tie"], [1, 0, 0.5]),
        (["image_1", "image_2", "tie"], [1, 0, 0.5]),
        (["left_image", "right_image", "equal"], [1, 0, 0.5]),
    ],
)
def test_known_words(tmp_path, words, right):
    store, _ = take_in(tmp_path, names_only(words), names_only=True)
    assert labels(store) == right


def test_a_column_of_winners_names_the_model_of_its_row(tmp_path):
    table = pa.table(
        {
            "prompt": ["p", "q", "r"],
            "image_a": ["1", "2", "3"],
            "image_b": ["4", "5", "6"],
            "model_a": ["flux", "sdxl", "flux"],
            "model_b": ["sdxl", "flux", "flux"],
            "winner": ["flux", "flux", "flux"],
        }
    )
    store, summary = take_in(tmp_path, table, names_only=True)
    assert labels(store) == [1.0, 0.0]
    assert summary.reasons == {"both sides have the name that winner has": 1}


def test_scores_counts_and_shares_a_side(tmp_path):
    base = {"prompt": "p", "image_0": "a", "image_1": "b"}
    ways = (
        ("score_columns", "s0,s1", {"s0": 3, "s1": 5}, 0.0, None),
        ("score_columns", "s0,s1", {"s0": 3, "s1": 3}, 0.5, None),
        ("count_columns", "n0,n1", {"n0": 7, "n1": 3}, 0.7, 10.0),
        ("share_column", "share", {"share": 0.25}, 0.25, None),
    )
    for number, (name, columns, cells, label, weight) in enumerate(ways):
        folder = tmp_path / str(number)
        folder.mkdir()
        store, _ = take_in(folder, [base | cells], names_only=True, **{name: columns})
        [pair] = rows(store, "pairs")
        assert (pair["label"], pair["label_weight"]) == (pytest.approx(label), weight)


def test_a_mapped_word_is_a_grade_and_a_preference_between_the_sides(tmp_path):
    words = ["much better", "slightly better", "worse"]
    meant = ["much better=1", "slightly better=.75", "worse=image_1"]
    store, _ = take_in(tmp_path, names_only(words), names_only=True, map=meant)
    assert labels(store) == [1.0, 0.75, 0.0]
    assert [vote["grade"] for vote in rows(store, "votes")] == words


def test_words_that_are_not_understood_are_listed_with_counts_and_the_option(tmp_path):
    table = names_only(["leftvote", "meh", "skip", "meh"])
    with pytest.raises(InputError) as caught:
        take_in(tmp_path, table, names_only=True)
    text = str(caught.value)
    assert "meh (2), skip (1) (understood: leftvote (1))" in text
    assert "--map meh=image_0 --map skip=image_1" in text
    command = ["pairwise", str(tmp_path / "table.parquet"), "--store", str(tmp_path / "t")]
    mapped = ["--names-only", "--map", "meh=tie", "--map", "skip=none"]
    result = CliRunner().invoke(app, command + mapped)
    assert "kept 4 (tied 2, unlabelled 1)" in result.output


@pytest.mark.parametrize("words", [[0, 1], [1, 1], [True, False], ["0", "1", "2"]])
def test_numbers_that_could_mean_either_side_are_refused(tmp_path, words):
    with pytest.raises(InputError, match="words that do not say which image won"):
        take_in(tmp_path, names_only(words), names_only=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"map": ["left"]}, "--map is 'left'; write WORD=MEANING"),
        ({"map": ["left=up"]}, "--map is 'left=up'"),
        ({"axis": ["quality"]}, "--axis is 'quality'; write NAME=COLUMN"),
        ({"image_columns": "left_image"}, "write two columns with a comma"),
        ({"choice_column": "winner"}, "lacks the column winner"),
        ({"choice_column": "vote_type", "share_column": "x"}, "2 of --choice-column"),
        ({"prompt_column": "text"}, "lacks the column text"),
    ],
)
def test_a_wrong_option_is_one_sentence(tmp_path, options, sentence):
    pq.write_table(names_only(["left"]), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=sentence):
        open_source("pairwise", tmp_path / "t.parquet", names_only=True, **options)


def test_columns_without_a_usual_name_are_asked_for(tmp_path):
    for drop, sentence in (
        ("vote_type", "no column of a usual name for which image won"),
        ("left_image", "no columns of usual names for the two images"),
        ("prompt", "no columns of usual names for the prompt"),
    ):
        table = names_only(["left"]).drop_columns(drop)
        pq.write_table(table, tmp_path / "t.parquet")
        with pytest.raises(InputError, match=sentence):
            open_source("pairwise", tmp_path / "t.parquet", names_only=True)
    both = names_only(["left"]).append_column("label_0", pa.array([1.0]))
    pq.write_table(both, tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"several columns .*\(vote_type, label_0\)"):
        open_source("pairwise", tmp_path / "t.parquet", names_only=True)


def test_every_vote_is_kept_whoever_gave_it(tmp_path):
    """One person, the same person saying otherwise, and nobody in particular twice."""
    made = [
        {"prompt": "p", "image_0": "a", "image_1": "b", "choice": word, "annotator": who}
        for word, who in [("left", "x"), ("right", "x"), ("left", None), ("left", None)]
    ]
    store, summary = take_in(tmp_path, made, names_only=True)
    assert (summary.kept, summary.duplicate) == (4, 0)
    votes = [(vote["annotator"], vote["choice"]) for vote in rows(store, "votes")]
    assert Counter(votes) == {(None, 1.0): 2, ("x", 0.0): 1, ("x", 1.0): 1}
    before = snapshot(store)
    again = ingest(store, "pairwise", tmp_path / "table.parquet", names_only=True)
    assert (again.kept, again.duplicate) == (0, 4)
    assert snapshot(store) == before


def test_label_studio_annotations_are_votes(tmp_path):
    label_studio(tmp_path)
    store = create_store(tmp_path / "s")
    ingest(store, "pairwise", tmp_path / "project.json", names_only=True)
    first, second, third = rows(store, "pairs")
    assert [p["label"] for p in (first, second, third)] == [0.5, 0.0, None]
    assert first["label_weight"] == 2.0
    assert votes_of(store, first["pair_id"]) == {"ann": 1.0, "bob": 0.0}


def test_argilla_responses_are_votes_on_each_question(tmp_path):
    record = {
        "id": "r1",
        "fields": {"prompt": "p", "image_1": "a", "image_2": "b"},
        "responses": {
            "preference": [
                {"value": "image_1", "user_id": "u1"},
                {"value": "image_2", "user_id": "u2"},
                {"value": "image_2", "user_id": "u3", "status": "discarded"},
            ],
            "fits": [{"value": "both_bad", "user_id": "u1"}],
        },
    }
    file = tmp_path / "records.json"
    file.write_text(json.dumps([record]))
    with pytest.raises(InputError, match=r"several columns .*\(preference, fits\)"):
        open_source("pairwise", file, names_only=True)
    store = create_store(tmp_path / "s")
    asked = {"choice_column": "preference", "axis": ["alignment=fits"]}
    ingest(store, "pairwise", file, names_only=True, **asked)
    [pair] = rows(store, "pairs")
    assert (pair["label"], pair["label_weight"]) == (0.5, 2.0)
    assert axis(store, "alignment") == {"p": 0.5}
    votes = {
        (vote["axis"], vote["annotator"]): (vote["choice"], vote["both_are"])
        for vote in rows(store, "votes")
    }
    assert votes == {
        (None, "u1"): (1.0, None),
        (None, "u2"): (0.0, None),
        ("alignment", "u1"): (0.5, "bad"),
    }


def test_a_column_a_person_is_a_vote_a_cell(tmp_path):
    table = names_only(["left", "right", "left"], "p1")
    table = table.append_column("p2", pa.array(["left", "tie", None]))
    pq.write_table(table.append_column("note", pa.array(["x", "y", "z"])), tmp_path / "t.parquet")
    store = create_store(tmp_path / "s")
    ingest(store, "wide", tmp_path / "t.parquet", annotator_columns="p[0-9]", names_only=True)
    pairs = rows(store, "pairs")
    assert [(p["label"], p["label_weight"]) for p in pairs] == [(1, 2), (0.25, 2), (1, 1)]
    assert [p["src_note"] for p in pairs] == ["x", "y", "z"]
    assert not [name for name in pairs[0] if name.startswith("src_p")]
    votes = [(vote["annotator"], vote["choice"]) for vote in rows(store, "votes")]
    assert sorted(votes) == [("p1", 0.0), ("p1", 1.0), ("p1", 1.0), ("p2", 0.5), ("p2", 1.0)]
    with pytest.raises(InputError, match=r"has no column q \(found: prompt, left_image"):
        open_source("wide", tmp_path / "t.parquet", annotator_columns="q", names_only=True)
