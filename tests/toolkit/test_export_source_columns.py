"""The source's own columns are exported where they name nobody, and come back the same."""

import json
import re
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from tests.toolkit.pickapic_source import SCHEMA, source_row, write_source
from tests.toolkit.stores import rows
from toolkit.errors import InputError
from toolkit.export import FORMATS, Policy, export_set, preview
from toolkit.export.table import PICKAPIC
from toolkit.ingest import SourceImage, SourceRow, ingest, ingest_rows
from toolkit.schema import OURS
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
    ingest(found, "pickapic", [tmp_path / "train.parquet"])
    return found


def further(store: Store) -> list[dict]:
    """The sources' own columns of every pair that are none of Pick-a-Pic's, in order of ids."""
    found = sorted(rows(store, "pairs"), key=lambda row: row["pair_id"])
    return [{name: row.get(f"src_{name}") for name in TOLD} for row in found]


@pytest.mark.parametrize("by", ["pickapic", "chosen-rejected"])
def test_a_sources_columns_survive_a_way_out_and_in_again(
    store: Store, tmp_path: Path, by: str
) -> None:
    export_set(store, tmp_path / "out", Policy(keep=tuple(TOLD)), by)
    again = create_store(tmp_path / "again")
    data = [tmp_path / "out" / "data"]
    if by == "pickapic":
        ingest(again, "pickapic", data)
    else:
        ingest(again, "chosen-rejected", data)
    assert sorted(map(str, further(again))) == sorted(map(str, further(store)))
    assert str(TOLD) in map(str, further(again))
    export_set(again, tmp_path / "twice", Policy(keep=tuple(TOLD)))
    (file,) = (tmp_path / "twice" / "data").iterdir()
    names = pq.read_schema(file).names
    assert len(names) == len(set(names))
    assert {"src_confidence", "nsfw_0", "style"} <= set(names)
    assert not {"src_minority", "src_pair_id", "src_verdict", "chosen_model"} & set(names)


def test_a_column_that_is_not_known_to_name_nobody_stays_behind_and_is_named(
    store: Store, tmp_path: Path
) -> None:
    says = (
        "Columns that stay behind: confidence, hidden, nsfw_0, prompt, rater, seen, shown, style "
        "(--keep COLUMN exports one as it is, --pseudonymize COLUMN as keyed pseudonyms); tags "
        "(nested or bytes)."
    )
    assert preview(store).lines()[-1] == says
    assert export_set(store, tmp_path / "out").lines()[-1] == says
    table = read(tmp_path / "out")
    assert table.column_names[-1] == "pair_id"
    record = json.loads((tmp_path / "out" / "curation.json").read_text())["source_columns"]
    assert record["exported"] == record["pseudonymized"] == []
    assert record["left_behind"] == [*sorted([*TOLD, "rater"]), "tags"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert (
        "left behind: confidence, hidden, nsfw_0, prompt, rater, seen, shown, style, tags" in card
    )
    for name in ("kohya", "weights"):
        assert not any("stay behind" in line for line in preview(store, form=name).lines())


def test_columns_leave_as_they_are_or_as_pseudonyms_by_option(store: Store, tmp_path: Path) -> None:
    outcome = export_set(
        store, tmp_path / "out", keep=["style", "confidence"], pseudonymize="rater"
    )
    table = read(tmp_path / "out")
    ours = table.schema.get_field_index("pair_id")
    assert table.column_names[ours + 1 :] == ["src_confidence", "rater", "style"]
    assert table["style"].to_pylist().count("étude, 'oil'") == 2
    assert table["rater"].type == pa.int64()
    assert len(set(table["rater"].to_pylist())) == 3
    assert "hidden, nsfw_0, prompt, seen, shown (" in outcome.lines()[-1]
    export_set(store, tmp_path / "named", keep="rater")
    assert read(tmp_path / "named")["rater"].to_pylist() == ["Anna 0", "Anna 1", "Anna 2"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"keep": "hue"}, "--keep names hue, which is no column of the source (columns: confid"),
        ({"pseudonymize": "tags"}, "--pseudonymize names tags, which is nested or holds bytes"),
        ({"keep": "style", "pseudonymize": "style"}, "--keep and --pseudonymize both name style"),
        ({"keep": "style", "form": "kohya"}, "--format kohya has no columns of the source"),
        ({"kept": "style"}, "An export has no option 'kept'; it has labels, run, finding"),
    ],
)
def test_columns_that_cannot_leave_are_a_sentence(
    store: Store, tmp_path: Path, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        export_set(store, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_what_the_source_declares_leaves_unless_another_source_fills_it_too(
    tmp_path: Path,
) -> None:
    store = create_store(tmp_path / "store")

    def row(name: str, **extra: object) -> SourceRow:
        return SourceRow(name, SourceImage(f"{name}a"), SourceImage(f"{name}b"), 1.0, extra=extra)

    ingest_rows(store, "mos", [row("p", score_0=0.25, score_1=0.75, mood="calm")])
    export_set(store, tmp_path / "one", images=False)
    assert read(tmp_path / "one").column_names[-2:] == ["score_0", "score_1"]
    ingest_rows(store, "elsewhere", [row("q", score_0="by Anna")])
    export_set(store, tmp_path / "two", images=False)
    assert read(tmp_path / "two").column_names[-1] == "score_1"


def read(out: Path) -> pa.Table:
    return pq.read_table(sorted((out / "data").iterdir()))


def exported(tmp_path: Path, parts: list[pa.Table], policy: Policy) -> pa.Table:
    """What is exported of a source in several parts, each with columns of its own."""
    for k, more in enumerate(parts):
        own = [source_row(10 * k + n) | DECIDED for n in range(more.num_rows)]
        table = pa.Table.from_pylist(own, schema=SCHEMA)
        for name in more.column_names:
            table = table.append_column(name, more[name])
        pq.write_table(table, tmp_path / f"part-{k}.parquet")
        store = create_store(tmp_path / "store") if not k else open_store(tmp_path / "store")
        ingest(store, "pickapic", [tmp_path / f"part-{k}.parquet"])
    export_set(store, tmp_path / "out", policy)
    return read(tmp_path / "out")


def test_a_person_has_one_pseudonym_whatever_the_type_of_the_column(tmp_path: Path) -> None:
    """Doubles are what pandas writes for whole numbers of which one is missing."""
    users = [source_row(n)["user_id"] for n in range(2)]
    own = {
        "text": [str(user) for user in users],
        "number": users,
        "double": pa.array([float(user) for user in users]),
        "decimal": pa.array([float(user) for user in users]).cast(pa.decimal128(12, 2)),
    }
    missing = {"worker_id": pa.array([9001.0, None])}
    policy = Policy(pseudonymize=(*own, *missing))
    table = exported(tmp_path, [pa.table(own | missing)], policy)
    for name in own:
        assert table[name].type == pa.int64()
        assert table[name].to_pylist() == table["user_id"].to_pylist()
        assert not set(users) & set(table[name].to_pylist())
    first, second = table["worker_id"].to_pylist()
    assert first not in (9001, None)
    assert second is None


def test_parts_that_differ_in_type_leave_in_one_that_holds_both(tmp_path: Path) -> None:
    one = pa.table({"score": [1, 2], "tags": ["a", "b"], "grade": [1, 2], "src_lang": ["en", "en"]})
    two = pa.table({"score": [1.5, None], "tags": [["a"], []], "grade": ["A", None]})
    table = exported(tmp_path, [one, two], Policy(keep=("score", "grade", "src_lang")))
    assert table["score"].to_pylist() == [1.0, 2.0, 1.5, None]
    assert table["grade"].to_pylist() == ["1", "2", "A", None]
    assert "tags" not in table.column_names
    assert table["src_lang"].to_pylist() == ["en", "en", None, None]


def test_names_of_ours_are_told_to_the_way_in() -> None:
    """A new column of an exported set must be among those that a source's own makes way for."""
    for name in (name for name, form in FORMATS.items() if form.source_columns):
        assert set(FORMATS[name].columns(Policy()).names) - set(PICKAPIC.names) <= OURS


def test_datasets_reads_every_type_of_them(store: Store, tmp_path: Path) -> None:
    export_set(store, tmp_path / "out", Policy(keep=tuple(TOLD)), "chosen-rejected")
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


@pytest.mark.parametrize("name", [n for n, form in FORMATS.items() if form.source_columns])
def test_a_column_with_a_dot_in_its_name_is_exported(tmp_path, name):
    schema = SCHEMA.append(pa.field("meta.size", pa.int64()))
    made = [source_row(k) | {"meta.size": k} for k in range(4)]
    store = create_store(tmp_path / "s")
    ingest(store, "pickapic", [write_source(tmp_path / "train.parquet", made, schema=schema)])
    outcome = export_set(store, tmp_path / "out", Policy(keep=("meta.size",)), name)
    assert "meta.size" in outcome.source.schema.names
    for file in (tmp_path / "out" / "data").glob("*.parquet"):
        assert pq.read_table(file)["meta.size"].to_pylist() == [0, 1, 3]
