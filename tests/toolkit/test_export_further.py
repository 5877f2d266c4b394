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
from toolkit.ingest import (
    ingest_chosen_rejected,
    ingest_pickapic,
    open_chosen_rejected,
    open_pickapic,
)
from toolkit.store import Store, create_store

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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    mine = {"tags": ["a"], "label_0": 1.0, "label_1": 0.0, "has_label": True}
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
