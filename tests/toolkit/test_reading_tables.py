"""Whatever is in a table, its good rows come in as they are and each bad one is set aside."""

import base64
import codecs
import gzip
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from app.cli.ingest import app
from tests.factories import png
from tests.toolkit.stores import rows, write_image
from toolkit.errors import InputError, Interrupted
from toolkit.ingest import SourceImage, SourceRow, ingest, ingest_rows, open_source, table_formats
from toolkit.ingest.tabular import batches, find_tables, records, rejected_rows
from toolkit.store import create_store
from toolkit.store.images import ImageReader

WEB = {"chosen": "https://x.example/1.png", "rejected": "https://x.example/2.png"}


def read(path: Path, **options) -> tuple[list[dict], list[tuple[int, str]]]:
    """A table's rows, and the number and reason of each that was set aside."""
    with rejected_rows() as rejected:
        values = [row for table in find_tables([path], **options) for _, row in records(table)]
    return values, [(row.source_row, row.problem) for row in rejected]


ENCODED = {
    "utf-8 with a mark": codecs.BOM_UTF8 + "prompt\ncafé".encode(),
    "utf-16": "prompt\ncafé".encode("utf-16"),
    "utf-16, big end first": codecs.BOM_UTF16_BE + "prompt\ncafé".encode("utf-16-be"),
}


@pytest.mark.parametrize("kind", ENCODED)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".jsonl", ".ndjson", ".jsonl.gz"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, kind, suffix):
    data = ENCODED[kind]
    if "json" in suffix:
        encoding = "utf-8-sig" if kind.startswith("utf-8") else "utf-16"
        data = '{"prompt": "café"}\n{"prompt": "café"}'.encode(encoding)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    assert read(path)[0][0] == {"prompt": "café"}


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_another_encoding_is_met_by_a_sentence_and_read_where_it_is_named(tmp_path, suffix):
    record = '{"prompt": "café", "chosen": "a", "rejected": "b"}'
    text = {".csv": "prompt,chosen,rejected\nplain,a,b\ncafé,a,b\n", ".json": f"[{record}]"}
    path = tmp_path / f"a{suffix}"
    path.write_bytes(text.get(suffix, f"{record}\n").encode("cp1252"))
    line = 3 if suffix == ".csv" else 1
    with pytest.raises(InputError, match=rf"line {line} has the byte 0xe9.*--encoding cp1252.*caf"):
        open_source("chosen-rejected", path)
    store = create_store(tmp_path / "s")
    ingest(store, "chosen-rejected", path, encoding="cp1252", images="reference")
    assert "café" in {pair["prompt"] for pair in rows(store, "pairs")}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_two_columns_of_one_name_are_never_taken_for_each_other(tmp_path, suffix):
    path, names = tmp_path / f"a{suffix}", ["prompt", "mask", "chosen", "mask"]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_arrays([pa.array(["x"])] * 4, names=names), path)
    elif suffix == ".jsonl":
        path.write_text('{"prompt": "x", "mask": 1, "mask": 2}\n{"prompt": "y", "mask": 3}\n')
        values, aside = read(path)
        assert values == [{"prompt": "y", "mask": 3}]
        assert aside == [(0, "the entry names mask more than once")]
        return
    else:
        mark = "\t" if suffix == ".tsv" else ","
        path.write_text(mark.join(names) + "\n" + mark.join("wxyz") + "\n")
    with pytest.raises(InputError, match="more than one column named mask"):
        find_tables([path])


@pytest.mark.parametrize("names", [["007", "07", "7"], [f"1234567890123456789{k}" for k in "012"]])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_identifiers_of_annotators_stay_apart(tmp_path, names, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".csv":
        lines = [f"p,{WEB['chosen']},{WEB['rejected']},{name}" for name in names]
        path.write_text("\n".join(["prompt,chosen,rejected,user_id", *lines]))
    else:
        given = [name if name.startswith("0") else int(name) for name in names]
        path.write_text(
            "".join(json.dumps({"prompt": "p", **WEB, "user_id": n}) + "\n" for n in given)
        )
    store = create_store(tmp_path / "s")
    assert ingest(store, "chosen-rejected", path).kept == 3
    assert {vote["annotator"] for vote in rows(store, "votes")} == set(names)


def labels_table(folder: Path, suffix: str, count: int, bad: int) -> Path:
    """`count` rows whose label_0 is 1, but in row `bad`."""
    path = folder / f"a{suffix}"
    made = [
        {"prompt": f"p{k} " + "x" * 500, **WEB, "label_0": "one" if k == bad else 1, "n": k}
        for k in range(count)
    ]
    if suffix == ".csv":
        lines = [",".join(map(str, row.values())) for row in made]
        path.write_text("\n".join([",".join(made[0]), *lines]))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("bad", [5, 2990])  # the first megabyte, and past it
def test_one_bad_cell_costs_one_row_and_no_column_its_type(tmp_path, suffix, bad):
    path = labels_table(tmp_path, suffix, 3000, bad)
    assert path.stat().st_size > 1.5e6
    store = create_store(tmp_path / "s")
    summary = ingest(store, "chosen-rejected", path)
    assert (summary.kept, summary.quarantined) == (2999, 1)
    [entry] = rows(store, "quarantine")
    assert (entry["source_file"], entry["source_row"]) == (str(path), bad)
    assert entry["reason"] == "the column label_0 has no whole number here (it is 'one')"
    pairs = rows(store, "pairs")
    assert [pair["src_n"] for pair in pairs] == [k for k in range(3000) if k != bad]
    assert {pair["src_label_0"] for pair in pairs} == {1}


def test_a_rating_or_a_vote_that_cannot_be_read_is_one_row(tmp_path):
    for name in ("0.png", "1.png"):
        write_image(tmp_path / name, (1, 2, 3))
    scores = [f"{k % 2}.png,p{k // 2},{k % 2}" for k in range(400)]
    scores[7] = "1.png,p3,high"
    table = tmp_path / "scores.csv"
    table.write_bytes(b"name,prompt,score\n" + "\n".join(scores).encode("utf-8"))
    store = create_store(tmp_path / "s")
    options = {"images_dir": tmp_path, "score_column": "score"}
    summary = ingest(store, "ratings", table, **options)
    assert (summary.kept, summary.quarantined) == (199, 1)
    assert rows(store, "quarantine")[0]["source_row"] == 7
    pairs = [pair["pair_id"] for pair in rows(store, "pairs")]
    votes = [{"pair_id": pair, "choice": 1, "time": None} for pair in pairs]
    votes[5] |= {"choice": "left"}
    votes[6] |= {"time": "0001-01-01T00:00:00+14:00"}
    votes[7] |= {"pair_id": ["a"]}
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes))
    summary = ingest(store, "votes", tmp_path / "votes.jsonl")
    assert (summary.kept, summary.quarantined) == (196, 3)
    assert [entry["source_row"] for entry in rows(store, "quarantine")[1:]] == [5, 6, 7]


def test_a_row_with_too_many_cells_is_set_aside_by_its_number(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n1,2,3\n"x\ny",5\n7\n8,9\n')
    values, aside = read(path)
    assert values == [{"a": "1", "b": 2}, {"a": "x\ny", "b": 5}, {"a": "8", "b": 9}]
    assert [number for number, _ in aside] == [1, 3]
    assert aside[0][1].endswith("(it has 3 cells, the header 2)")


ODD_RECORDS = {
    "half a character": '{"prompt": "a\\ud800"}',
    "nested too deep": '{"prompt": ' + "[" * 5000 + "]" * 5000 + "}",
    "a number of 5,000 digits": '{"prompt": "a", "n": ' + "9" * 5000 + "}",
    "no object": "[1, 2]",
    "a list for a prompt": '{"prompt": ["a"]}',
    "a time out of range": '{"prompt": "a", "created_at": "0001-01-01T00:00:00+14:00"}',
    "a NUL in a path": '{"prompt": "a", "chosen": "a\\u0000b"}',
    "a number for an image": '{"prompt": "a", "chosen": {"bytes": 5}}',
    "a path upwards": '{"prompt": "a", "chosen": "../../etc/passwd"}',
    "a path with backslashes": '{"prompt": "a", "chosen": "i\\\\a.png"}',
}
"""Rows of which each was a traceback, or was taken in silently."""


@pytest.mark.parametrize("kind", ODD_RECORDS)
@pytest.mark.parametrize("form", ["a line each", "a list"])
@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_a_record_that_cannot_be_read_is_one_row(tmp_path, kind, form, mode):
    good = [{"prompt": "good", **WEB}, {"prompt": "better", **WEB}]
    odd = ODD_RECORDS[kind]
    if odd.startswith("{") and "chosen" not in odd:
        odd = odd[:-1] + ", " + json.dumps(WEB)[1:]
    elif "rejected" not in odd:
        odd = odd[:-1] + ', "rejected": "https://x.example/2.png"}' if odd[0] == "{" else odd
    lines = [json.dumps(good[0]), odd, json.dumps(good[1])]
    path = tmp_path / ("a.jsonl" if form == "a line each" else "a.json")
    path.write_text("\n".join(lines) if form == "a line each" else "[" + ",".join(lines) + "]")
    store = create_store(tmp_path / "s")
    summary = ingest(store, "chosen-rejected", path, images=mode)
    assert (summary.kept, summary.quarantined) == (2, 1)
    [entry] = rows(store, "quarantine")
    assert (entry["source_file"], entry["source_row"]) == (str(path), 1)


@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_a_file_outside_the_folder_of_its_source_comes_in_only_where_allowed(tmp_path, mode):
    write_image(tmp_path / "elsewhere" / "a.png", (1, 2, 3))
    write_image(tmp_path / "set" / "b.png", (3, 2, 1))
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "set" / "loop.png").symlink_to(tmp_path / "set" / "loop.png")
    paths = [str(tmp_path / "elsewhere" / "a.png"), "../elsewhere/a.png", "link.png", "b.png"]
    lines = [f"p{k},{path},b.png" for k, path in enumerate(paths)]
    table = tmp_path / "set" / "a.csv"
    table.write_text("\n".join(["prompt,chosen,rejected", *lines]))
    store = create_store(tmp_path / "s")
    summary = ingest(store, "chosen-rejected", table, images=mode)
    assert (summary.kept, summary.quarantined) == (1, 3)
    assert {entry["reason"].split(";")[0] for entry in rows(store, "quarantine")} == {
        "image_0: the file is outside the folder of its source"
    }
    assert ingest(store, "chosen-rejected", table, images=mode, allow_outside=True).kept == 3
    table.write_text("prompt,chosen,rejected\nround,loop.png,b.png\n")
    if mode == "copy":
        assert ingest(store, "chosen-rejected", table).quarantined == 1


def as_lists(path: Path, frame: pl.DataFrame) -> None:
    numbers = pa.list_(pa.uint8())
    images = {
        name: pa.array([list(data) for data in frame[name]], numbers)
        for name in ("chosen", "rejected")
    }
    pq.write_table(pa.table({"prompt": frame["prompt"].to_list(), **images}), path)


def as_uris(path: Path, frame: pl.DataFrame) -> None:
    lines = ["prompt,chosen,rejected"]
    for prompt, *images in frame.iter_rows():
        uris = (f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in images)
        lines.append(",".join([prompt, *(f'"{uri}"' for uri in uris)]))
    path.write_text("\n".join(lines))


CELLS = {
    "binary_view, as polars writes Arrow": (".arrow", lambda path, frame: frame.write_ipc(path)),
    "binary_view in Feather": (".feather", lambda path, frame: frame.write_ipc(path)),
    "list<uint8>": (".parquet", as_lists),
    "data URIs": (".csv", as_uris),
}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_images_are_read_in_every_form_a_cell_may_have(tmp_path, kind, mode):
    suffix, write = CELLS[kind]
    made = {"prompt": ["a", "b"], "chosen": [png((1, 0, 0)), png((2, 0, 0))]}
    write(tmp_path / f"a{suffix}", pl.DataFrame(made | {"rejected": [png((0, 0, 1))] * 2}))
    store = create_store(tmp_path / "s")
    assert ingest(store, "chosen-rejected", tmp_path / f"a{suffix}", images=mode).kept == 2
    reader = ImageReader(store)
    read_back = [reader.read(pair["image_0"]) for pair in rows(store, "pairs")]
    assert read_back == made["chosen"]


def test_an_excel_sheet_is_a_table_whose_identifiers_are_text_where_they_must_be(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="the extra [excel] is not installed")
    book = openpyxl.Workbook()
    for row in (["prompt", "user_id", "n"], ["a", "007", 1], ["b", 7, 2.5], [None, None, None]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    assert read(tmp_path / "a.xlsx")[0] == [
        {"prompt": "a", "user_id": "007", "n": 1.0},
        {"prompt": "b", "user_id": "7", "n": 2.5},
    ]


WRONG = {
    "a Git-LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "a web page": b"<!DOCTYPE html><html>404</html>",
    "base64 text": base64.b64encode(b"PAR1" + b"\0" * 100),
    "an encrypted Parquet file": b"PARE" + b"\0" * 100 + b"PARE",
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_file_of_the_wrong_kind_is_named(tmp_path, kind):
    (tmp_path / "a.parquet").write_bytes(WRONG[kind])
    with pytest.raises(InputError, match=f"a.parquet is {kind}"):
        open_source("pickapic", tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/test-00000-of-00002.parquet", "test"),
        ("split=validation/part-0.parquet", "validation"),
        ("train/part-0.parquet", "train"),
        ("latest/contest.parquet", None),
    ],
)
def test_the_split_is_read_from_the_place_of_a_file(tmp_path, name, split):
    path = tmp_path / "set" / name
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"prompt": ["a"], **{k: [v] for k, v in WEB.items()}}), path)
    for named in (tmp_path / "set", path):
        store = create_store(tmp_path / f"s{named.is_file()}")
        ingest(store, "chosen-rejected", named)
        assert [pair["split"] for pair in rows(store, "pairs")] == [split]


def test_rows_are_read_together_only_while_they_are_small(tmp_path, monkeypatch):
    table = pa.table({"n": range(100), "data": [bytes(1000)] * 100})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, compression="none")
    [found_table] = find_tables([tmp_path / "a.parquet"])
    assert [rows.num_rows for _, rows in batches(found_table, size=100)] == [100]
    monkeypatch.setattr(table_formats, "BATCH_BYTES", 10_500)
    sizes = [rows.num_rows for _, rows in batches(found_table, size=100)]
    assert (sum(sizes), max(sizes)) == (100, 10)
    assert [rows.num_rows for _, rows in batches(found_table, ["n"], size=100)] == [100]


def test_votes_that_a_source_leaves_unread_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "p", **WEB, "votes_image1": 7}))
    summary = ingest(create_store(tmp_path / "s"), "chosen-rejected", tmp_path / "a.jsonl")
    assert summary.notes[0].startswith("not read as votes, only kept as columns: votes_image1;")


def test_a_source_of_which_nothing_was_kept_fails(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": " ", **WEB}))
    words = ["chosen-rejected", str(tmp_path / "a.jsonl"), "--store", str(tmp_path / "s")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "quarantined 1: the prompt is empty" in result.output
    assert "nothing was kept" in result.output
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "good", **WEB}))
    assert [CliRunner().invoke(app, words).exit_code for _ in range(2)] == [0, 0]  # duplicates: 0


def test_ctrl_c_says_what_was_kept_and_keeps_it(tmp_path):
    def given():
        for k in range(100):
            yield SourceRow(f"p{k}", SourceImage("a"), SourceImage("b"), 1.0)
        raise KeyboardInterrupt

    store = create_store(tmp_path / "s")
    with pytest.raises(Interrupted, match=r"64 of 64 rows read were kept\. The same command adds"):
        ingest_rows(store, "mine", given())
    assert len(rows(store, "pairs")) == 64
