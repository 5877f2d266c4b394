"""`--shard i/n`: the shards of a source, one after the other or at once, make the whole's store."""

import json
import multiprocessing
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from tests.factories import png
from tests.toolkit.pickapic_source import SCHEMA, source_row
from tests.toolkit.stores import rows
from toolkit.errors import InputError, StoreError
from toolkit.ingest import ingest, open_source, writer
from toolkit.ingest.tabular import batches, find_tables, records
from toolkit.progress import SILENT
from toolkit.sharding import Shard, read_shard
from toolkit.store import Store, create_store, open_store
from toolkit.store.integrity import check_store
from toolkit.store.locks import adding

TABLES = ("pairs", "images", "votes", "quarantine")


def contents(store: Store) -> dict[str, list]:
    """Every row of every table, without what the order of writing may change.

    That is the rows' own order and, of images by reference, which of their cells is named.
    """
    found: dict[str, list] = {}
    for table in TABLES:
        kept = [{k: v for k, v in row.items() if k[:4] != "ref_"} for row in rows(store, table)]
        found[table] = sorted(json.dumps(row, default=str, sort_keys=True) for row in kept)
    return found


def parquet_of(path: Path, made: list[dict], group: int) -> Path:
    pq.write_table(pa.Table.from_pylist(made, schema=SCHEMA), path, row_group_size=group)
    return path


@pytest.mark.parametrize("images", ["copy", "reference"])
def test_the_shards_of_a_source_make_the_store_of_the_whole(tmp_path, images):
    made = [source_row(k) for k in range(14)] + [source_row(3)] + [source_row(20, caption="")]
    for place, some in enumerate((made[:9], made[9:])):
        parquet_of(tmp_path / f"train-{place}.parquet", some, group=2)
    whole, parts = create_store(tmp_path / "whole"), create_store(tmp_path / "parts")
    told = ingest(whole, "pickapic", [tmp_path], images=images)
    each = []
    for index in (2, 0, 1):
        files = sorted(tmp_path.glob("*.parquet"))
        source = open_source("pickapic", files, shard=Shard(index, 3), images=images)
        each.append(source.add(parts, SILENT))
        assert each[-1].read == source.rows > 0
    assert contents(parts) == contents(whole)
    for name in ("read", "kept", "tied", "duplicate", "quarantined", "images"):
        assert sum(getattr(one, name) for one in each) == getattr(told, name)
    assert check_store(parts).faults == ()


def work(store: str, files: list[str], index: int, count: int, images: str, start, told) -> None:
    writer.PART_ROWS = 3
    source = open_source("pickapic", files, shard=f"{index}/{count}", images=images)
    start.wait()
    summary = source.add(open_store(store), SILENT)
    told.put((summary.read, summary.kept, summary.duplicate, summary.images))


@pytest.mark.parametrize("images", ["copy", "reference"])
def test_processes_that_bring_the_same_rows_at_once_write_each_once(tmp_path, images):
    """Every pair stands in two shards and every image in several: the worst that can meet."""
    made = [source_row(k) for k in range(0, 48, 2)]
    file = parquet_of(tmp_path / "train.parquet", [row for row in made for _ in (0, 1)], group=1)
    store = create_store(tmp_path / "store")
    context = multiprocessing.get_context("spawn")
    start, told = context.Barrier(2), context.Queue()
    given = (str(store.root), [str(file)])
    shards = [
        context.Process(target=work, args=(*given, index, 2, images, start, told))
        for index in (0, 1)
    ]
    for shard in shards:
        shard.start()
    sums = [told.get(timeout=600) for _ in shards]
    for shard in shards:
        shard.join()
    assert [sum(column) for column in zip(*sums, strict=True)] == [48, 24, 24, 48]
    assert len(rows(store, "pairs")) == len(rows(store, "votes")) == 24
    assert check_store(store).faults == ()


def test_what_another_ingest_brought_meanwhile_is_a_duplicate_and_not_written_twice(tmp_path):
    """One ingest stops between reading the store's ids and writing; another is faster."""
    file = parquet_of(tmp_path / "train.parquet", [source_row(k) for k in (0, 2, 4)], group=8)
    store = create_store(tmp_path / "store")

    class Overtaken:
        def line(self, text: str) -> None: ...

        def update(self, *_: object) -> None:
            if not rows(store, "pairs"):
                assert ingest(store, "pickapic", [file]).kept == 3

    slow = ingest(store, "pickapic", [file], progress=Overtaken())
    assert (slow.read, slow.kept, slow.duplicate, slow.tied, slow.images) == (3, 0, 3, 0, 0)
    assert len(rows(store, "pairs")) == 3
    assert check_store(store).faults == ()


def test_a_store_that_is_held_alone_takes_nothing_in(tmp_path):
    file = parquet_of(tmp_path / "train.parquet", [source_row(0)], group=8)
    store = create_store(tmp_path / "store")
    with adding(store), pytest.raises(StoreError, match="Another ingest is writing"):
        ingest(store, "pickapic", [file])
    with adding(store, together=True), pytest.raises(StoreError, match="Another"), adding(store):
        pass


@pytest.mark.parametrize("kind", ["parquet", "json", "csv", "arrow"])
def test_every_row_of_every_kind_of_table_is_dealt_to_one_shard_under_its_own_number(
    tmp_path, kind
):
    table = pa.table({"n": list(range(50))})
    path = tmp_path / f"table.{kind}"
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=7)
    elif kind == "json":
        path.write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    elif kind == "csv":
        csv.write_csv(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table, max_chunksize=7)
    seen = []
    for index in range(3):
        [dealt] = find_tables([path], shard=Shard(index, 3))
        mine = list(records(dealt))
        assert len(mine) == dealt.rows
        assert all(number == row["n"] for number, row in mine)
        if kind != "json":
            whole = [n for _, batch in batches(dealt, size=4) for n in batch["n"].to_pylist()]
            assert whole == [number for number, _ in mine]
        seen += [number for number, _ in mine]
    assert sorted(seen) == list(range(50))


def test_rankings_are_dealt_whole_though_their_rows_lie_apart(tmp_path):
    images = [{"prompt_id": f"p{k % 2}", "prompt": f"prompt {k % 2}", "rank": k} for k in range(6)]
    for k, row in enumerate(images):
        (tmp_path / f"{k}.png").write_bytes(png((40 * k, 0, 0)))
        row["image_path"] = f"{k}.png"
    listed = tmp_path / "train.json"
    listed.write_text(json.dumps(images))
    whole, parts = create_store(tmp_path / "whole"), create_store(tmp_path / "parts")
    ingest(whole, "imagereward", [listed])
    kept = [ingest(parts, "imagereward", [listed], shard=Shard(index, 2)).kept for index in (0, 1)]
    assert kept == [3, 3]
    assert contents(parts) == contents(whole)


def test_lists_and_folders_are_dealt_too(tmp_path):
    for folder in ("w", "l"):
        (tmp_path / folder).mkdir()
        for k in range(5):
            (tmp_path / folder / f"{k}.png").write_bytes(png((k, 0, len(folder))))
            (tmp_path / folder / f"{k}.txt").write_text("a prompt")
    sides = (tmp_path / "w", tmp_path / "l")
    assert [open_source("folders", *sides, shard=f"{i}/2").rows for i in (0, 1)] == [3, 2]

    entries = [
        {"prompt": "p", "file_path": [f"w/{k}.png", f"l/{k}.png"], "human_preference": [1, 0]}
        for k in range(5)
    ]
    listed = tmp_path / "train.json"
    listed.write_text(json.dumps(entries))
    store = create_store(tmp_path / "store")
    read = [ingest(store, "hpd", [listed], shard=Shard(i, 3)).kept for i in range(3)]
    assert read == [2, 2, 1]

    table = pa.table({"prompt": ["p"] * 5, "chosen": ["w/0.png"] * 5, "rejected": ["l/0.png"] * 5})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    source = open_source("chosen-rejected", tmp_path / "t.parquet", shard="1/2")
    assert source.rows == 2
    assert source.add(store, SILENT).read == 2


def test_a_shard_without_rows_is_an_empty_summary_and_no_fault(tmp_path):
    file = parquet_of(tmp_path / "train.parquet", [source_row(0)], group=8)
    source = open_source("pickapic", [file], shard="5/6")
    assert (source.rows, source.add(create_store(tmp_path / "s"), SILENT).read) == (0, 0)


def test_shards_are_read_from_their_words_and_anything_else_is_a_sentence():
    assert read_shard("2/8") == Shard(2, 8)
    assert (read_shard(None), str(Shard(2, 8))) == (None, "2/8")
    for wrong in ("8/8", "1", "a/b", "-1/2", "1/0", ""):
        with pytest.raises(InputError, match="write i/n with i from 0 to n - 1"):
            read_shard(wrong)
