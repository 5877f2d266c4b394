"""Pick-a-Pic files come in whole, once, and with every defect named and counted."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from app.cli.ingest import app
from tests.factories import png
from tests.toolkit.pickapic_source import SCHEMA, picture, source_row, write_source
from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import parts
from toolkit.ingest import Summary, ingest, open_source, writer
from toolkit.store import Store, open_or_create
from toolkit.store.images import ImageReader


def take_in(store: Path, *paths: Path, **options) -> tuple[Store, Summary]:
    opened = open_or_create(store)
    return opened, ingest(opened, "pickapic", list(paths), **options)


def table(store: Store, name: str) -> list[dict]:
    tables = [pq.read_table(file) for file in parts(store.folder(name))]
    return pa.concat_tables(tables, promote_options="default").to_pylist() if tables else []


def snapshot(store: Store) -> dict[str, bytes]:
    files = [p for p in store.root.rglob("*") if p.is_file()]
    return {str(p): p.read_bytes() for p in files}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(
        tmp_path / "train-00000-of-00001.parquet", [source_row(k) for k in range(30)]
    )


def test_every_row_becomes_a_pair_with_its_images_in_the_sources_order(tmp_path, source):
    store, summary = take_in(tmp_path / "s", source)
    assert (summary.read, summary.kept, summary.tied, summary.duplicate) == (30, 30, 10, 0)
    reader = ImageReader(store)
    for pair in table(store, "pairs"):
        k = pair["src_ranking_id"] - 1000
        row = source_row(k)
        assert (pair["image_0"], pair["image_1"]) == (row["image_0_uid"], row["image_1_uid"])
        assert pair["label"] == row["label_0"]
        assert pair["prompt"] == row["caption"]
        assert (pair["split"], pair["source"]) == ("train", "pickapic")
        assert reader.read(pair["image_0"]) == row["jpg_0"]
        assert reader.read(pair["image_1"]) == row["jpg_1"]


def test_an_image_of_two_pairs_is_stored_once(tmp_path, source):
    store, summary = take_in(tmp_path / "s", source)
    ids = Counter(row["image_id"] for row in table(store, "images"))
    assert set(ids.values()) == {1}
    assert summary.images == len(ids) == 45


def test_users_become_votes_with_their_time(tmp_path, source):
    store, _ = take_in(tmp_path / "s", source)
    votes = table(store, "votes")
    assert len(votes) == 30
    assert {vote["annotator"] for vote in votes} == {"70", "71", "72", "73", "74"}
    first = min(vote["time"] for vote in votes)
    assert first.isoformat() == "2023-05-01T00:00:00+00:00"


def test_source_columns_survive_but_neither_blobs_nor_what_repeats_ours(tmp_path, source):
    store, _ = take_in(tmp_path / "s", source)
    kept = {name for name in table(store, "pairs")[0] if name.startswith("src_")}
    ours = {"caption", "image_0_uid", "image_1_uid", "label_0", "label_1", "jpg_0", "jpg_1"}
    assert kept == {f"src_{name}" for name in SCHEMA.names if name not in ours}


def test_a_column_nobody_has_heard_of_survives_too(tmp_path, monkeypatch):
    rows = [source_row(k) | {"mood": None if k < 10 else "calm"} for k in range(20)]
    path = write_source(
        tmp_path / "train.parquet", rows, schema=SCHEMA.append(pa.field("mood", pa.string()))
    )
    monkeypatch.setattr(writer, "PART_ROWS", 5)
    store, _ = take_in(tmp_path / "s", path)
    assert len(parts(store.folder("pairs"))) > 1
    assert Counter(pair["src_mood"] for pair in table(store, "pairs")) == {None: 10, "calm": 10}


def test_ingesting_the_same_source_again_changes_nothing(tmp_path, source):
    store, _ = take_in(tmp_path / "s", source)
    before = snapshot(store)
    _, again = take_in(tmp_path / "s", source)
    assert (again.read, again.kept, again.duplicate, again.images) == (30, 0, 30, 0)
    assert snapshot(store) == before


def test_quarantined_rows_are_not_written_twice_either(tmp_path):
    path = write_source(tmp_path / "a.parquet", [source_row(0), source_row(1, jpg_0=b"broken")])
    store, _ = take_in(tmp_path / "s", path)
    before = snapshot(store)
    _, again = take_in(tmp_path / "s", path)
    assert (again.duplicate, again.quarantined) == (1, 1)
    assert snapshot(store) == before


def test_a_pair_keeps_its_id_in_another_store_and_another_order(tmp_path, source):
    one, _ = take_in(tmp_path / "one", source)
    turned = write_source(
        tmp_path / "elsewhere" / "train-x.parquet", [source_row(k) for k in reversed(range(30))]
    )
    two, _ = take_in(tmp_path / "two", turned)
    facts = [
        {(p["pair_id"], p["comparison_id"], p["src_ranking_id"]) for p in table(s, "pairs")}
        for s in (one, two)
    ]
    assert facts[0] == facts[1]


def test_two_people_judging_the_same_images_make_two_pairs_of_one_comparison(tmp_path):
    rows = [source_row(0), source_row(0, user_id=5, ranking_id=9)]
    store, _ = take_in(tmp_path / "s", write_source(tmp_path / "a.parquet", rows))
    pairs = table(store, "pairs")
    assert len({pair["pair_id"] for pair in pairs}) == 2
    assert len({pair["comparison_id"] for pair in pairs}) == 1


def test_an_existing_store_is_added_to(tmp_path, source):
    take_in(tmp_path / "s", source)
    more = write_source(tmp_path / "more.parquet", [source_row(k) for k in range(25, 40)])
    store, summary = take_in(tmp_path / "s", more)
    assert (summary.kept, summary.duplicate) == (10, 5)
    assert len(table(store, "pairs")) == 40


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"jpg_0": b"not an image"}, "image_0: the image cannot be decoded"),
        ({"jpg_1": b""}, "image_1: the image has no bytes"),
        ({"jpg_1": None}, "image_1: the image has no bytes"),
        ({"jpg_0": png((1, 2, 3), 64)[:90]}, "image_0: the image cannot be decoded"),
        ({"label_0": 0.7, "label_1": 0.3}, "the labels are none of"),
        ({"label_0": 1.0, "label_1": 1.0}, "the labels are none of"),
        ({"label_0": 0.0, "label_1": 0.0}, "the labels are none of"),
        ({"label_1": None}, "the labels are none of"),
        ({"image_0_uid": ""}, "the uid of image_0 is empty"),
        ({"image_1_uid": None}, "the uid of image_1 is empty"),
        ({"caption": None}, "the prompt is empty"),
        ({"caption": "  "}, "the prompt is empty"),
        ({"jpg_0": png((9, 9, 9))}, "image_0: its uid names other bytes"),
    ],
)
def test_a_faulty_row_is_quarantined_with_its_reason_and_counted(tmp_path, changes, reason):
    rows = [source_row(0), source_row(1), source_row(2), source_row(1, ranking_id=77, **changes)]
    path = write_source(tmp_path / "train.parquet", rows)
    store, summary = take_in(tmp_path / "s", path)
    assert (summary.kept, summary.quarantined) == (3, 1)
    [entry] = table(store, "quarantine")
    assert entry["reason"].startswith(reason)
    assert (entry["source_row"], entry["source_file"]) == (3, str(path))
    assert sum(summary.reasons.values()) == 1
    held = {row["image_id"] for row in table(store, "images")}
    assert held == {
        image for pair in table(store, "pairs") for image in (pair["image_0"], pair["image_1"])
    }


def test_a_broken_copy_of_an_image_does_not_take_a_whole_one_with_it(tmp_path):
    rows = [source_row(0, jpg_0=b"broken", ranking_id=1), source_row(0)]
    store, summary = take_in(tmp_path / "s", write_source(tmp_path / "a.parquet", rows))
    assert (summary.kept, summary.quarantined) == (1, 1)
    assert ImageReader(store).read("uid-00000") == picture("uid-00000")


def test_one_uid_for_two_different_images_of_a_row_is_quarantined(tmp_path):
    rows = [source_row(0, image_1_uid="uid-00000")]
    _, summary = take_in(tmp_path / "s", write_source(tmp_path / "a.parquet", rows))
    assert list(summary.reasons) == ["image_1: its uid names other bytes in this store"]


def test_reasons_are_counted_by_kind_whatever_their_details(tmp_path):
    rows = [source_row(k, label_0=k / 100, label_1=0.9) for k in range(1, 6)]
    _, summary = take_in(tmp_path / "s", write_source(tmp_path / "a.parquet", rows))
    assert list(summary.reasons.values()) == [5]
    assert any("quarantined 5: the labels are none of" in line for line in summary.lines())


def test_unlabelled_pairs_are_kept_and_marked_and_cast_no_vote(tmp_path):
    nan = float("nan")
    rows = [
        source_row(0, label_0=None, label_1=None),
        source_row(1, label_0=nan, label_1=nan),
        source_row(2, has_label=False),
        source_row(3),
    ]
    store, summary = take_in(tmp_path / "s", write_source(tmp_path / "a.parquet", rows))
    assert (summary.kept, summary.unlabelled) == (4, 3)
    assert len(table(store, "votes")) == 1
    assert sum(pair["label"] is None for pair in table(store, "pairs")) == 3


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00645-b66ac786bf6fb553.parquet", "train"),
        ("validation_unique-00000-of-00001.parquet", "validation"),
        ("test.parquet", "test"),
        ("training_notes.parquet", None),
        ("data.parquet", None),
    ],
)
def test_the_split_is_read_from_the_file_name(tmp_path, name, split):
    store, _ = take_in(tmp_path / "s", write_source(tmp_path / name, [source_row(0)]))
    assert table(store, "pairs")[0]["split"] == split


def test_a_named_split_overrides_the_file_name(tmp_path, source):
    store, _ = take_in(tmp_path / "s", source, split="test")
    assert {pair["split"] for pair in table(store, "pairs")} == {"test"}


def test_files_without_images_give_pairs_whose_images_can_come_later(tmp_path, source):
    rows = [source_row(k) for k in range(30)]
    bare = write_source(tmp_path / "bare" / "train.parquet", rows, drop=("jpg_0", "jpg_1"))
    store, summary = take_in(tmp_path / "s", bare)
    assert (summary.kept, summary.images, table(store, "images")) == (30, 0, [])
    _, later = take_in(tmp_path / "s", source)
    assert (later.kept, later.duplicate, later.images) == (0, 30, 45)
    assert ImageReader(store).read("uid-00003") == picture("uid-00003")


def test_references_are_stored_without_reading_a_single_image(tmp_path):
    rows = [source_row(k, jpg_0=b"anything at all") for k in range(25)]
    path = write_source(tmp_path / "train.parquet", rows)
    store, summary = take_in(tmp_path / "s", path, images="reference")
    assert (summary.kept, summary.quarantined) == (25, 0)
    image = next(
        row for row in table(store, "images") if row["image_id"] == rows[14]["image_0_uid"]
    )
    assert (image["bytes"], image["content_hash"]) == (None, None)
    assert (image["ref_file"], image["ref_row"], image["ref_column"]) == (str(path), 14, "jpg_0")
    assert ImageReader(store).read(rows[14]["image_0_uid"]) == b"anything at all"


def test_the_bytes_and_path_struct_of_image_features_is_read(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [pa.field(f.name, kind) if f.name.startswith("jpg") else f for f in SCHEMA]
    row = source_row(0)
    row |= {name: {"bytes": row[name], "path": None} for name in ("jpg_0", "jpg_1")}
    path = write_source(tmp_path / "a.parquet", [row], schema=pa.schema(fields))
    for mode in ("copy", "reference"):
        store, summary = take_in(tmp_path / mode, path, images=mode)
        assert summary.kept == 1
        assert ImageReader(store).read(row["image_1_uid"]) == row["jpg_1"]["bytes"]


def test_large_images_get_a_thumbnail_and_small_ones_none(tmp_path):
    row = source_row(0, jpg_0=png((5, 5, 5), side=400))
    store, _ = take_in(tmp_path / "s", write_source(tmp_path / "a.parquet", [row]))
    [small] = table(store, "thumbnails")
    assert (small["image_id"], small["width"], small["height"]) == ("uid-00000", 320, 320)


def test_limit_reads_only_the_first_rows_across_files(tmp_path):
    files = [
        write_source(
            tmp_path / "d" / f"train-{n}.parquet", [source_row(k) for k in range(n, n + 8)]
        )
        for n in (0, 20)
    ]
    _, summary = take_in(tmp_path / "s", files[0].parent, limit=10)
    assert summary.read == 10


def test_a_folder_is_searched_for_parquet_files_in_order(tmp_path):
    folder = tmp_path / "deep" / "data"
    write_source(folder / "test-0.parquet", [source_row(50)])
    write_source(folder / "train-0.parquet", [source_row(51)])
    (folder / "notes.txt").write_text("not a table")
    store, summary = take_in(tmp_path / "s", tmp_path / "deep")
    assert summary.kept == 2
    assert {pair["split"] for pair in table(store, "pairs")} == {"train", "test"}


def bad_source(kind: str, folder: Path) -> Path:
    path = folder / "train.parquet"
    good = write_source(folder / "good.parquet", [source_row(k) for k in range(30)])
    data = good.read_bytes()
    good.unlink()
    if kind == "missing":
        return folder / "nowhere"
    if kind == "empty folder":
        (folder / "void").mkdir()
        return folder / "void"
    contents = {
        "empty file": b"",
        "truncated": data[: len(data) // 2],
        "not parquet": b"caption,label\n" * 20,
    }
    if kind in contents:
        path.write_bytes(contents[kind])
        return path
    row = source_row(0)
    if kind == "missing columns":
        return write_source(path, [row], drop=("label_0", "caption"))
    if kind == "one image column":
        return write_source(path, [row], drop=("jpg_1",))
    if kind == "no rows":
        return write_source(path, [])
    name, change = {
        "text labels": ("label_0", pa.string()),
        "numbers for uids": ("image_0_uid", pa.int64()),
        "text for images": ("jpg_0", pa.string()),
    }[kind]
    fields = [pa.field(f.name, change) if f.name == name else f for f in SCHEMA]
    value = {"label_0": "1", "image_0_uid": 7, "jpg_0": "x"}[name]
    return write_source(path, [row | {name: value}], schema=pa.schema(fields))


BAD = {
    "missing": "does not exist; name a Parquet file or a folder of them.",
    "empty folder": "holds no .parquet file; name one that does.",
    "empty file": "is empty (0 bytes); fetch it again.",
    "truncated": "is a Parquet file cut short or damaged; fetch it again or name another file.",
    "not parquet": "is not a Parquet file; fetch it again or name another file.",
    "missing columns": "lacks the columns caption, label_0 (found: are_different, best_image_uid,",
    "one image column": "has jpg_0 without its partner; it needs both or neither.",
    "no rows": "holds no rows; name a Parquet file with pairs in it.",
    "text labels": "holds string in column label_0, where a number is needed; write it again",
    "numbers for uids": "holds int64 in column image_0_uid, where text is needed; write it again",
    "text for images": "holds string in column jpg_0, where bytes is needed; write it again",
}


@pytest.mark.parametrize(("kind", "sentence"), BAD.items())
def test_bad_input_is_one_sentence_and_makes_no_store(tmp_path, kind, sentence):
    path = bad_source(kind, tmp_path)
    result = CliRunner().invoke(app, ["pickapic", str(path), "--store", str(tmp_path / "s")])
    assert result.exit_code != 0
    assert isinstance(result.exception, InputError)
    assert sentence in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind != "no rows"])
def test_bad_input_beside_good_leaves_an_existing_store_as_it_was(tmp_path, source, kind):
    store, _ = take_in(tmp_path / "s", source)
    before = snapshot(store)
    (tmp_path / "bad").mkdir()
    fresh = write_source(tmp_path / "fresh.parquet", [source_row(99)])
    with pytest.raises(InputError):
        take_in(tmp_path / "s", fresh, bad_source(kind, tmp_path / "bad"))
    assert snapshot(store) == before


def test_files_with_and_without_images_are_not_mixed(tmp_path, source):
    bare = write_source(tmp_path / "bare.parquet", [source_row(0)], drop=("jpg_0", "jpg_1"))
    with pytest.raises(InputError, match="one after the other"):
        open_source("pickapic", [source, bare])


def test_damage_inside_a_file_keeps_the_rows_before_it(tmp_path):
    path = write_source(tmp_path / "train.parquet", [source_row(k) for k in range(30)])
    place = pq.read_metadata(path).row_group(2).column(2).data_page_offset
    with path.open("r+b") as stream:
        stream.seek(place - 40)
        stream.write(b"\xff" * 120)
    store = open_or_create(tmp_path / "s")
    with pytest.raises(InputError, match="is damaged after row 20; the rows before it are in"):
        ingest(store, "pickapic", [path])
    assert len(table(store, "pairs")) == 20


def test_new_insists_that_there_is_no_store(tmp_path, source):
    take_in(tmp_path / "s", source)
    arguments = ["pickapic", str(source), "--store", str(tmp_path / "s"), "--new"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, StoreError)
    assert "is a store already" in str(result.exception)


def test_a_foreign_folder_is_not_made_into_a_store(tmp_path, source):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    result = CliRunner().invoke(app, ["pickapic", str(source), "--store", str(tmp_path / "mine")])
    assert isinstance(result.exception, StoreError)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_an_unknown_split_is_refused_before_a_store_is_made(tmp_path, source):
    arguments = ["pickapic", str(source), "--store", str(tmp_path / "s"), "--split", "../x"]
    result = CliRunner().invoke(app, arguments)
    assert "it must be train, validation or test" in str(result.exception)
    assert not (tmp_path / "s").exists()


def test_the_command_prints_the_summary(tmp_path):
    rows = [source_row(0), source_row(1, jpg_0=b"x"), source_row(2), source_row(2)]
    path = write_source(tmp_path / "train.parquet", rows)
    result = CliRunner().invoke(app, ["pickapic", str(path), "--store", str(tmp_path / "s")])
    assert result.exit_code == 0, result.output
    assert "read 4, kept 2 (tied 1, unlabelled 0), duplicate 1, quarantined 1" in result.output
    assert "quarantined 1: image_0: the image cannot be decoded" in result.output
