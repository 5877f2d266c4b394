"""Tables of every kind give the same rows, and a damaged one is a sentence."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from tests.toolkit.pickapic_source import SCHEMA, source_row, write_source
from tests.toolkit.stores import rows, snapshot, write_arrow
from toolkit.errors import InputError
from toolkit.ingest import ingest, open_source
from toolkit.ingest.tabular import find_tables, records
from toolkit.progress import SILENT
from toolkit.store import create_store
from toolkit.store.images import ImageReader

ROWS = [{"prompt": f"p{k}", "n": k} for k in range(20)]


def written(kind: str, folder: Path) -> Path:
    path = folder / f"table.{kind}"
    table = pa.Table.from_pylist(ROWS)
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=6)
    elif kind == "arrow":
        write_arrow(path, table)
    elif kind == "csv":
        csv.write_csv(table, path)
    elif kind == "json":
        path.write_text(json.dumps(ROWS, indent=1))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv", "json", "jsonl"])
def test_every_kind_of_table_gives_the_same_rows_by_number(tmp_path, kind):
    [table] = find_tables([written(kind, tmp_path)])
    assert (table.rows, table.schema.names) == (20, ["prompt", "n"])
    assert list(records(table)) == list(enumerate(ROWS))


def test_a_json_list_longer_than_what_is_read_together_is_read_whole(tmp_path):
    path = tmp_path / "long.json"
    entries = [{"k": k, "text": "ü] , {" * 40} for k in range(9000)]
    path.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    assert path.stat().st_size > 2 << 20
    [table] = find_tables([path])
    assert [row for _, row in records(table)] == entries


@pytest.mark.parametrize("cut", [0.3, 0.999])
@pytest.mark.parametrize("kind", ["json", "arrow"])
def test_a_table_cut_short_is_refused_before_a_row_is_read(tmp_path, kind, cut):
    path = written(kind, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(InputError, match="cut short or damaged; fetch it again or name another"):
        find_tables([path])


def test_another_kind_of_file_is_named_with_what_is_allowed(tmp_path):
    with pytest.raises(InputError, match="is a CSV file; Pick-a-Pic is a Parquet file"):
        find_tables([written("csv", tmp_path)], allowed=("parquet", "arrow"), what="Pick-a-Pic")


def saved_dataset(folder: Path, count: int = 20) -> Path:
    """As DatasetDict.save_to_disk leaves it: a split a folder, Arrow streams, JSON beside."""
    table = pa.Table.from_pylist([source_row(k) for k in range(count)], schema=SCHEMA)
    for split, part in (("train", table.slice(0, 15)), ("test", table.slice(15))):
        half = part.num_rows // 2
        for n, piece in enumerate((part.slice(0, half), part.slice(half))):
            write_arrow(folder / split / f"data-{n:05d}-of-00002.arrow", piece)
        (folder / split / "state.json").write_text("{}")
        (folder / split / "dataset_info.json").write_text("{}")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    return folder


@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_a_saved_dataset_folder_comes_in_with_its_splits_and_images(tmp_path, mode):
    store = create_store(tmp_path / "s")
    source = open_source("pickapic", saved_dataset(tmp_path / "saved"), images=mode)
    summary = source.add(store, SILENT)
    assert (summary.kept, source.rows) == (20, 20)
    reader = ImageReader(store)
    splits = {}
    for pair in rows(store, "pairs"):
        row = source_row(pair["src_ranking_id"] - 1000)
        splits[pair["src_ranking_id"] - 1000] = pair["split"]
        assert reader.read(pair["image_0"]) == row["jpg_0"]
        assert reader.read(pair["image_1"]) == row["jpg_1"]
    assert [k for k, split in splits.items() if split == "test"] == [15, 16, 17, 18, 19]


def test_the_first_versions_eighteen_columns_come_in_too(tmp_path):
    path = write_source(
        tmp_path / "train.parquet", [source_row(k) for k in range(9)], drop=("__index_level_0__",)
    )
    store = create_store(tmp_path / "s")
    assert ingest(store, "pickapic", [path]).kept == 9
    assert "src___index_level_0__" not in rows(store, "pairs")[0]


def test_annotators_can_be_replaced_on_the_way_in_in_ids_too(tmp_path):
    path = write_source(tmp_path / "train.parquet", [source_row(k) for k in range(12)])
    plain = create_store(tmp_path / "plain")
    ingest(plain, "pickapic", [path])
    for mode in ("copy", "reference"):
        store = create_store(tmp_path / mode)
        ingest(store, "pickapic", [path], images=mode, pseudonyms=True)
        pairs, votes = rows(store, "pairs"), rows(store, "votes")
        ids = {p["pair_id"] for p in pairs}
        assert len(ids) == 12
        assert ids.isdisjoint(p["pair_id"] for p in rows(plain, "pairs"))
        names = {vote["annotator"] for vote in votes}
        assert len(names) == 5
        assert names.isdisjoint({"70", "71", "72", "73", "74"})
        assert {str(p["src_user_id"]) for p in pairs} == names
        before = snapshot(store)
        assert ingest(store, "pickapic", [path], images=mode).duplicate == 12
        assert snapshot(store) == before
