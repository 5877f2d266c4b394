"""Tables of chosen and rejected images, and open-image-preferences, in all their forms."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from app.cli.ingest import app
from tests.factories import png
from tests.toolkit.stores import rows, snapshot, votes_of, write_arrow, write_image
from toolkit.errors import InputError
from toolkit.image_files import content_hash
from toolkit.ingest import ingest, open_source
from toolkit.labels.majority import majority_of_votes
from toolkit.store import create_store
from toolkit.store.images import ImageReader

FEATURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
RED, BLUE = png((250, 0, 0)), png((0, 0, 250))

COLUMNS = {"prompt_column": "text", "chosen_column": "win", "rejected_column": "lose"}


def blobs(count: int = 3, kind: pa.DataType = FEATURE) -> pa.Table:
    def cell(data: bytes) -> object:
        return {"bytes": data, "path": None} if kind == FEATURE else data

    made = [
        {
            "prompt": f"number {k}",
            "chosen": cell(png((250, k, 0))),
            "rejected": cell(png((0, k, 250))),
            "nsfw": k == 1,
        }
        for k in range(count)
    ]
    fields = [("prompt", pa.string()), ("chosen", kind), ("rejected", kind), ("nsfw", pa.bool_())]
    return pa.Table.from_pylist(made, schema=pa.schema(fields))


def paths_table(folder: Path, suffix: str) -> Path:
    write_image(folder / "i" / "good one.png", (250, 0, 0))
    write_image(folder / "i" / "bad's.png", (0, 0, 250))
    row = {"text": 'a "quoted", prompt', "win": "i/good one.png", "lose": "i/bad's.png"}
    path = folder / f"table{suffix}"
    with path.open("w", newline="") as stream:
        if suffix == ".csv":
            writer = csv.DictWriter(stream, list(row))
            writer.writeheader()
            writer.writerow(row)
        else:
            stream.write(json.dumps(row) + "\n")
    return path


@pytest.mark.parametrize("kind", [FEATURE, pa.binary()])
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_images_in_cells_come_in_chosen_first(tmp_path, kind, suffix, mode):
    path = tmp_path / "d" / f"data-0{suffix}"
    if suffix == ".arrow":
        write_arrow(path, blobs(kind=kind))
    else:
        path.parent.mkdir()
        pq.write_table(blobs(kind=kind), path)
    store = create_store(tmp_path / "s")
    summary = ingest(store, "chosen-rejected", path.parent, images=mode)
    assert (summary.kept, summary.images) == (3, 6)
    pairs = rows(store, "pairs")
    assert [p["label"] for p in pairs] == [1.0] * 3
    assert [p["src_nsfw"] for p in pairs] == [False, True, False]
    reader = ImageReader(store)
    for k, pair in enumerate(pairs):
        assert reader.read(pair["image_0"]) == png((250, k, 0))
        assert reader.read(pair["image_1"]) == png((0, k, 250))
    if mode == "copy":
        assert pairs[0]["image_0"] == content_hash(png((250, 0, 0)))
    before = snapshot(store)
    assert ingest(store, "chosen-rejected", path.parent, images=mode).duplicate == 3
    assert snapshot(store) == before


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_columns_can_be_mapped_and_paths_begin_at_the_table(tmp_path, suffix, mode):
    folder = tmp_path / "a folder's name"
    path = paths_table(folder, suffix)
    names = ["--prompt-column", "text", "--chosen-column", "win", "--rejected-column", "lose"]
    arguments = ["chosen-rejected", str(path), "--store", str(tmp_path / "s"), "--images", mode]
    result = CliRunner().invoke(app, arguments + names)
    assert result.exit_code == 0, result.output
    assert "read 1, kept 1" in result.output
    store = create_store(tmp_path / "t")
    ingest(store, "chosen-rejected", [path], **COLUMNS)
    [pair] = rows(store, "pairs")
    assert pair["prompt"] == 'a "quoted", prompt'
    data = (folder / "i" / "good one.png").read_bytes()
    assert ImageReader(store).read(pair["image_0"]) == data


def test_equal_paths_of_two_tables_are_two_images(tmp_path):
    store = create_store(tmp_path / "s")
    for name, colour in (("one", (250, 0, 0)), ("two", (0, 250, 0))):
        path = paths_table(tmp_path / name, ".csv")
        write_image(tmp_path / name / "i" / "good one.png", colour)
        ingest(store, "chosen-rejected", [path], **COLUMNS)
    chosen = [pair["image_0"] for pair in rows(store, "pairs")]
    reader = ImageReader(store)
    assert reader.read(chosen[0]) != reader.read(chosen[1])


def test_a_label_column_puts_the_chosen_image_back_into_its_place(tmp_path):
    table = blobs(6).append_column("label_0", pa.array([1.0, 0.0, 0.5, None, 0.2, 1.7]))
    pq.write_table(table, tmp_path / "a.parquet")
    store = create_store(tmp_path / "s")
    summary = ingest(store, "chosen-rejected", [tmp_path / "a.parquet"])
    assert (summary.kept, summary.tied, summary.unlabelled, summary.quarantined) == (5, 1, 1, 1)
    assert summary.graded == 1
    pairs = rows(store, "pairs")
    assert [pair["label"] for pair in pairs] == pytest.approx([1, 0, 0.5, None, 0.2])
    for place, shade in ((1, 1), (4, 4)):  # the chosen image came second
        assert ImageReader(store).read(pairs[place]["image_1"]) == png((250, shade, 0))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"chosen": "won"}, r"lacks the column chosen \(found: prompt, won, rejected, nsfw\)"),
        ({"prompt": "text"}, "name yours with --prompt-column, --chosen-column"),
    ],
)
def test_missing_columns_are_named_with_the_options_that_map_them(tmp_path, change, sentence):
    names = [change.get(name, name) for name in blobs().column_names]
    pq.write_table(blobs().rename_columns(names), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=sentence):
        open_source("chosen-rejected", tmp_path / "a.parquet")


def test_numbers_for_images_are_refused(tmp_path):
    table = blobs().set_column(1, "chosen", pa.array([1, 2, 3]))
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="holds int64 in column chosen, where images or paths"):
        open_source("chosen-rejected", tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("names", "options", "sentence"),
    [
        (("jpg_0", "jpg_1"), {}, r"--image-columns jpg_0,jpg_1 --share-column label_0`\.$"),
        (("jpg_0", "jpg_1"), {"label_column": "label_0"}, "jpg_0 is not always the chosen one"),
        (("right", "left"), {}, "right is not always the chosen one"),
        (("win", "lose"), {}, "or give --label-column label_0 if it says that win came first"),
    ],
)
def test_a_label_beside_columns_of_another_name_is_refused(tmp_path, names, options, sentence):
    """The four columns of diffusers' scripts: 89 of 175 labels came in as their opposite."""
    table = blobs(2).append_column("label_0", pa.array([1.0, 0.0]))
    table = table.rename_columns(["prompt", *names, "nsfw", "label_0"])
    pq.write_table(table, tmp_path / "a.parquet")
    columns = {"chosen_column": names[0], "rejected_column": names[1]}
    with pytest.raises(InputError, match=sentence):
        open_source("chosen-rejected", tmp_path / "a.parquet", **columns, **options)


def test_a_named_label_column_says_which_place_the_chosen_image_had(tmp_path):
    table = blobs(2).append_column("label_0", pa.array([1.0, 0.0]))
    table = table.rename_columns(["prompt", "win", "lose", "nsfw", "label_0"])
    pq.write_table(table, tmp_path / "a.parquet")
    store = create_store(tmp_path / "s")
    columns = {"chosen_column": "win", "rejected_column": "lose", "label_column": "label_0"}
    ingest(store, "chosen-rejected", tmp_path / "a.parquet", **columns)
    assert [pair["label"] for pair in rows(store, "pairs")] == [1.0, 0.0]


def preferences(folder: Path) -> Path:
    said = [
        (["image_1", "image_2", "image_1"], ["u1", "u2", "u3"]),
        (["both_good", "image_2"], ["u1", "u2"]),
        (["both_bad"], ["u1"]),
        (["image_1", "image_2"], ["u1", "u2"]),
        ([], []),
        (["neither"], ["u1"]),
    ]
    made = [
        {
            "prompt": f"number {k}",
            "image_1": {"bytes": png((250, k, 0)), "path": None},
            "image_2": {"bytes": png((0, k, 250)), "path": None},
            "preference.responses": answers,
            "preference.responses.users": users,
            "preference.responses.status": ["submitted"] * len(users),
            "category": "anime",
            "split": "test" if k else None,
        }
        for k, (answers, users) in enumerate(said)
    ]
    texts = pa.list_(pa.string())
    schema = pa.schema(
        [
            ("prompt", pa.string()),
            ("image_1", FEATURE),
            ("image_2", FEATURE),
            ("preference.responses", texts),
            ("preference.responses.users", texts),
            ("preference.responses.status", texts),
            ("category", pa.string()),
            ("split", pa.string()),
        ]
    )
    path = folder / "train.parquet"
    pq.write_table(pa.Table.from_pylist(made, schema=schema), path)
    return path


@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_answers_become_votes_and_their_majority_the_label(tmp_path, mode):
    store = create_store(tmp_path / "s")
    summary = ingest(store, "image-preferences", preferences(tmp_path), images=mode)
    pairs = rows(store, "pairs")
    assert [p["label"] for p in pairs] == [1.0, 0.0, 0.5, 0.5, None]
    assert list(summary.reasons) == ["an answer is none of image_1, image_2, both_good, both_bad"]
    assert votes_of(store, pairs[0]["pair_id"]) == {"u1": 1.0, "u2": 0.0, "u3": 1.0}
    assert votes_of(store, pairs[1]["pair_id"]) == {"u1": 0.5, "u2": 0.0}
    assert pairs[2]["src_responses"] == ["both_bad"]
    ties = {(v["grade"], v["both_are"]) for v in rows(store, "votes") if v["choice"] == 0.5}
    assert ties == {("both_good", "good"), ("both_bad", "bad")}
    assert [p["label_weight"] for p in pairs] == [3.0, 2.0, 1.0, 2.0, None]
    assert {p["split"] for p in pairs[1:]} == {"test"}
    assert pairs[0]["src_category"] == "anime"
    assert ImageReader(store).read(pairs[0]["image_0"]) == png((250, 0, 0))


def test_the_binarised_form_is_prompt_chosen_rejected_under_its_own_name(tmp_path):
    pq.write_table(blobs(), tmp_path / "a.parquet")
    store = create_store(tmp_path / "s")
    assert ingest(store, "image-preferences", tmp_path / "a.parquet").kept == 3
    assert {p["source"] for p in rows(store, "pairs")} == {"image-preferences"}


def test_addresses_are_names_and_nothing_is_fetched(tmp_path):
    path = tmp_path / "a.jsonl"
    row = {"prompt": "p", "chosen": "https://x.example/1.png", "rejected": "https://x.example/2"}
    path.write_text(json.dumps(row))
    store = create_store(tmp_path / "s")
    summary = ingest(store, "image-preferences", [path])
    assert (summary.kept, summary.images) == (1, 0)
    assert rows(store, "pairs")[0]["image_0"] == "https://x.example/1.png"


def test_rows_without_an_annotator_are_a_vote_each_and_come_in_once(tmp_path):
    """Five people on one comparison, none of them named: all stay, whatever they say."""
    for name, colour in (("a.png", (250, 0, 0)), ("b.png", (0, 0, 250))):
        write_image(tmp_path / name, colour)
    lines = [f"fox,a.png,b.png,{label}" for label in (1, 1, 0, 0.5, 1)]
    (tmp_path / "t.csv").write_text("\n".join(["prompt,chosen,rejected,label_0", *lines]))
    store = create_store(tmp_path / "s")
    for number in range(2):
        summary = ingest(store, "chosen-rejected", tmp_path / "t.csv")
        assert (summary.kept, summary.duplicate) == ((5, 0), (0, 5))[number]
    by_pair = {pair["pair_id"]: pair for pair in rows(store, "pairs")}
    votes = [(by_pair[v["pair_id"]]["image_0"], v["annotator"]) for v in rows(store, "votes")]
    assert len({pair["comparison_id"] for pair in by_pair.values()}) == 1
    assert len(by_pair) == len(votes) == 5
    assert {annotator for _, annotator in votes} == {None}
    assert majority_of_votes(store, "m").pairs == 5
