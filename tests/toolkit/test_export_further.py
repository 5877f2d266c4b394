"""What a source said beyond our columns leaves with an export, and comes back the same."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from tests.toolkit.pickapic_source import SCHEMA, source_row
from tests.toolkit.stores import rows
from toolkit.export import FORMATS, Policy, export_set
from toolkit.export.table import PICKAPIC
from toolkit.ingest import (
    ingest_chosen_rejected,
    ingest_pickapic,
    open_chosen_rejected,
    open_pickapic,
)
from toolkit.pairs import OURS
from toolkit.store import Store, create_store, open_store

TOLD = {
    "nsfw_0": 0.25,
    "hidden": True,
    "style": "étude, 'oil'",
    "confidence": 0.875,  # as HPDv3 has it: not our c
    "seen": datetime(2024, 2, 29, 12),
    "shown": 7,
    "prompt": "not the caption",
}
TYPES = {
    "nsfw_0": pa.float32(),
    "hidden": pa.bool_(),
    "style": pa.string(),
    "confidence": pa.float64(),
    "seen": pa.timestamp("us"),
    "shown": pa.int32(),
    "prompt": pa.string(),
}


DECIDED = {"label_0": 1.0, "label_1": 0.0, "has_label": True}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    mine = {"tags": ["a"]} | DECIDED
    made = [source_row(k) | TOLD | mine | {"rater": f"Anna {k}"} for k in range(3)]
    made[1] |= dict.fromkeys(TOLD)
    fields = [pa.field(name, kind) for name, kind in TYPES.items()]
    more = [pa.field("rater", pa.string()), pa.field("tags", pa.list_(pa.string()))]
    table = pa.Table.from_pylist(made, schema=pa.schema([*SCHEMA, *fields, *more]))
    pq.write_table(table, tmp_path / "train.parquet")
    found = create_store(tmp_path / "store")
    ingest_pickapic(found, open_pickapic([tmp_path / "train.parquet"]))
    return found


def further(store: Store) -> list[dict]:
    """The sources' own columns of every pair that are none of Pick-a-Pic's, in order of ids."""
    found = sorted(rows(store, "pairs"), key=lambda row: row["pair_id"])
    return [{name: row.get(f"src_{name}") for name in TOLD} for row in found]


@pytest.mark.parametrize("by", ["pickapic", "chosen-rejected"])
def test_a_sources_columns_survive_a_way_out_and_in_again(
    store: Store, tmp_path: Path, by: str
) -> None:
    export_set(store, tmp_path / "out", Policy(), FORMATS[by])
    again = create_store(tmp_path / "again")
    data = [tmp_path / "out" / "data"]
    if by == "pickapic":
        ingest_pickapic(again, open_pickapic(data))
    else:
        ingest_chosen_rejected(again, open_chosen_rejected(data))
    assert sorted(map(str, further(again))) == sorted(map(str, further(store)))
    assert str(TOLD) in map(str, further(again))
    export_set(again, tmp_path / "twice", Policy(), FORMATS["pickapic"])
    (file,) = (tmp_path / "twice" / "data").iterdir()
    names = pq.read_schema(file).names
    assert len(names) == len(set(names))
    assert {"src_confidence", "nsfw_0", "style"} <= set(names)
    assert not {"src_minority", "src_pair_id", "src_verdict", "chosen_model"} & set(names)


def test_behind_our_columns_persons_have_pseudonyms_and_nested_columns_stay(
    store: Store, tmp_path: Path
) -> None:
    export_set(store, tmp_path / "out", Policy(), FORMATS["pickapic"])
    (file,) = (tmp_path / "out" / "data").iterdir()
    table = pq.read_table(file)
    ours = table.schema.get_field_index("pair_id")
    assert table.column_names[ours + 1 :] == [
        *("src_confidence", "hidden", "nsfw_0", "prompt", "rater", "seen", "shown", "style")
    ]
    assert "Anna" not in str(table["rater"].to_pylist())
    assert len(set(table["rater"].to_pylist())) == 3
    assert "tags" not in table.column_names
    export_set(store, tmp_path / "named", Policy(pseudonyms=False), FORMATS["pickapic"])
    (file,) = (tmp_path / "named" / "data").iterdir()
    assert pq.read_table(file)["rater"].to_pylist() == ["Anna 0", "Anna 1", "Anna 2"]


def exported(tmp_path: Path, parts: list[pa.Table], policy: Policy) -> pa.Table:
    """What leaves of a source in several parts, each with further columns of its own."""
    for k, more in enumerate(parts):
        own = [source_row(10 * k + n) | DECIDED for n in range(more.num_rows)]
        table = pa.Table.from_pylist(own, schema=SCHEMA)
        for name in more.column_names:
            table = table.append_column(name, more[name])
        pq.write_table(table, tmp_path / f"part-{k}.parquet")
        store = create_store(tmp_path / "store") if not k else open_store(tmp_path / "store")
        ingest_pickapic(store, open_pickapic([tmp_path / f"part-{k}.parquet"]))
    export_set(store, tmp_path / "out", policy, FORMATS["pickapic"])
    return pq.read_table(sorted((tmp_path / "out" / "data").iterdir()))


def test_who_may_be_named_leaves_as_a_pseudonym_and_a_score_as_it_is(tmp_path: Path) -> None:
    """user_id is the annotator in this source: a copy of it under any name is one too."""
    users = [source_row(n)["user_id"] for n in range(2)]
    told = {
        "e_mail": ["anna@x.org", "berta@x.org"],
        "labeler_id": ["a", "b"],
        "prolific_pid": ["p1", "p2"],
        "kin": [str(user) for user in users],
        "rater_id": [71, 72],
    }
    kept = {
        "llm_judge_score": [0.25, 0.5],
        "num_raters": [3, 5],
        "expert_score": [1, 2],
        "model_name": ["sdxl", "sd15"],
        "subject": ["dog", "cat"],
    }
    table = exported(tmp_path, [pa.table(told | kept)], Policy())
    for name, values in told.items():
        assert table[name].type == pa.int64()
        assert not set(map(str, table[name].to_pylist())) & set(map(str, values))
    for name, values in kept.items():
        assert table[name].to_pylist() == values


def test_whole_numbers_that_are_stored_as_doubles_name_persons_too(tmp_path: Path) -> None:
    """As pandas writes a column of numbers in which one is missing."""
    users = [source_row(n)["user_id"] for n in range(2)]
    told = {
        "labelled_by_worker_id": pa.array([9001.0, None]),
        "copy": pa.array([float(user) for user in users]),
        "exact": pa.array([float(user) for user in users]).cast(pa.decimal128(12, 2)),
        "worker_hours": pa.array([1.5, 2.0]),
        "rater_score": pa.array([3.0, 4.0]),
    }
    table = exported(tmp_path, [pa.table(told)], Policy())
    for name in ("labelled_by_worker_id", "copy"):
        assert table[name].type == pa.int64()
    assert table["labelled_by_worker_id"].to_pylist()[0] not in (9001, None)
    assert table["labelled_by_worker_id"].to_pylist()[1] is None
    assert table["copy"].to_pylist() == table["user_id"].to_pylist()
    assert table["exact"].to_pylist() == table["user_id"].to_pylist()
    assert table["worker_hours"].to_pylist() == [1.5, 2.0]
    assert table["rater_score"].to_pylist() == [3.0, 4.0]


def test_parts_that_differ_in_type_leave_in_one_that_holds_both(tmp_path: Path) -> None:
    one = pa.table({"score": [1, 2], "tags": ["a", "b"], "grade": [1, 2], "src_lang": ["en", "en"]})
    two = pa.table({"score": [1.5, None], "tags": [["a"], []], "grade": ["A", None]})
    table = exported(tmp_path, [one, two], Policy())
    assert table["score"].to_pylist() == [1.0, 2.0, 1.5, None]
    assert table["grade"].to_pylist() == ["1", "2", "A", None]
    assert "tags" not in table.column_names
    assert table["src_lang"].to_pylist() == ["en", "en", None, None]


def test_names_of_ours_are_told_to_the_way_in() -> None:
    """A new column of an exported set must be among those that a source's own makes way for."""
    for name in ("pickapic", "chosen-rejected", "webdataset"):
        assert set(FORMATS[name].columns(Policy()).names) - set(PICKAPIC.names) <= OURS


def test_datasets_reads_every_type_of_them(store: Store, tmp_path: Path) -> None:
    export_set(store, tmp_path / "out", Policy(), FORMATS["chosen-rejected"])
    found = load_dataset(
        "parquet",
        data_files=[str(path) for path in (tmp_path / "out" / "data").iterdir()],
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    row = next(row for row in found if row["hidden"])
    assert row["nsfw_0"] == 0.25
    assert row["shown"] == 7
    assert row["seen"] == TOLD["seen"]
    assert row["src_confidence"] == 0.875
    assert row["src_prompt"] == "not the caption"
