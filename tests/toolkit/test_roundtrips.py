"""What goes in by any format comes out by any other: the same pairs, labels and weights."""

import io
import json
import math
import tarfile
import tempfile
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import png
from tests.toolkit.pickapic_source import SCHEMA, source_row
from tests.toolkit.stores import rows
from toolkit.export import FORMATS, Policy, export_set
from toolkit.ingest import SOURCES, Reference, SourceImage, SourceRow, ingest, ingest_rows
from toolkit.ingest.source import AxisLabel
from toolkit.schema import STATED
from toolkit.store import Store, create_store
from toolkit.store.images import ImageReader

# Parquet and JSON hold every text but lone surrogates; a prompt of space alone is no prompt.
PROMPTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40).filter(
    lambda text: text.strip() and text == text.rstrip("\r\n")
)


@dataclass(frozen=True)
class Pair:
    """As any source could state it; `colours` make its two images."""

    prompt: str
    label: float | None
    colours: tuple[int, int]
    weight: float


PAIRS = st.lists(
    st.builds(
        Pair,
        PROMPTS,
        st.sampled_from([1.0, 0.0, 0.5, None]),
        st.tuples(st.integers(0, 255), st.integers(0, 255)),
        st.sampled_from([1.0, 0.25, 2.0]),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda pair: pair.colours,
)
FEW = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
Known = set[tuple[str, bytes, bytes, float | None, float]]


def images(pair: Pair) -> tuple[bytes, bytes]:
    return png((pair.colours[0], 0, 9), 4), png((0, pair.colours[1], 9), 4)


def as_pickapic(path: Path, pairs: list[Pair]) -> Path:
    made = []
    for k, pair in enumerate(pairs):
        one, two = images(pair)
        made.append(
            source_row(k)
            | {
                "caption": pair.prompt,
                "jpg_0": one,
                "jpg_1": two,
                "image_0_uid": f"a{pair.colours[0]}",
                "image_1_uid": f"b{pair.colours[1]}",
                "label_0": pair.label,
                "label_1": None if pair.label is None else 1 - pair.label,
                "sample_weight": pair.weight,
            }
        )
    schema = SCHEMA.append(pa.field("sample_weight", pa.float64()))
    pq.write_table(pa.Table.from_pylist(made, schema=schema), path)
    return path


def in_store(store: Store) -> Known:
    reader = ImageReader(store)
    return {
        (
            pair["prompt"],
            reader.read(pair["image_0"]),
            reader.read(pair["image_1"]),
            pair["label"],
            pair.get("src_sample_weight", 1.0),
        )
        for pair in rows(store, "pairs")
    }


def planted(pairs: list[Pair]) -> Known:
    return {(pair.prompt, *images(pair), pair.label, pair.weight) for pair in pairs}


def decided(pairs: Known) -> Known:
    return {pair for pair in pairs if pair[3] in (0.0, 1.0)}


def winners_first(pairs: Known) -> set[tuple[str, bytes, bytes]]:
    return {(p, one, two) if label == 1 else (p, two, one) for p, one, two, label, _ in pairs}


@FEW
@given(PAIRS)
def test_pickapic_and_chosen_rejected_carry_pairs_labels_and_weights(pairs):
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        first = create_store(work / "first")
        ingest(first, "pickapic", [as_pickapic(work / "train.parquet", pairs)])
        assert in_store(first) == planted(pairs)
        everything = Policy(keep_ties=True, keep_unlabelled=True)
        export_set(first, work / "out", everything, FORMATS["pickapic"])
        second = create_store(work / "second")
        ingest(second, "pickapic", [work / "out" / "data"])
        assert in_store(second) == planted(pairs)
        if not decided(planted(pairs)):
            return
        export_set(second, work / "sides", Policy(), FORMATS["chosen-rejected"])
        third = create_store(work / "third")
        ingest(third, "chosen-rejected", [work / "sides" / "data"])
        assert in_store(third) == decided(planted(pairs))
        export_set(third, work / "back", Policy(), FORMATS["pickapic"])
        fourth = create_store(work / "fourth")
        ingest(fourth, "pickapic", [work / "back" / "data"])
        assert in_store(fourth) == decided(planted(pairs))


@FEW
@given(PAIRS)
def test_folders_and_webdataset_carry_what_is_decided(pairs):
    if not decided(planted(pairs)):
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        store = create_store(work / "s")
        ingest(store, "pickapic", [as_pickapic(work / "train.parquet", pairs)])
        expected = winners_first(decided(planted(pairs)))
        export_set(store, work / "k", Policy(), FORMATS["kohya"])
        again = create_store(work / "again")
        ingest(again, "folders", work / "k" / "w", work / "k" / "l")
        assert winners_first(in_store(again)) == expected
        export_set(store, work / "w", Policy(), FORMATS["webdataset"])
        found: Known = set()
        for path in (work / "w" / "data").iterdir():
            with tarfile.open(path) as tar:
                files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
            for key in {name.split(".")[0] for name in files}:
                row = json.loads(files[f"{key}.json"])
                sides = (files[f"{key}.0.jpg"], files[f"{key}.1.jpg"])
                found.add((row["caption"], *sides, row["label_0"], row["sample_weight"]))
        assert found == decided(planted(pairs))


LABELS = st.sampled_from([1.0, 0.0, 0.5, 0.7, None, float("nan")])
SOURCE_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "caption": st.sampled_from(["one", "two", " ", None]),
            "image_0_uid": st.sampled_from(["a", "b", "", None]),
            "image_1_uid": st.sampled_from(["c", "d", ""]),
            "label_0": LABELS,
            "label_1": LABELS,
            "has_label": st.sampled_from([True, True, False, None]),
            "user_id": st.sampled_from([7, 8, None]),
            "ranking_id": st.integers(0, 2),
        }
    ),
    min_size=1,
    max_size=12,
)


def by_the_rules(file: Path, number: int, changed: dict) -> SourceRow:
    """Pick-a-Pic's rules for one row, as its card states them."""
    row = source_row(number) | changed
    ours = {"caption", "image_0_uid", "image_1_uid", "label_0", "label_1", "jpg_0", "jpg_1"}
    labels = [None if v is None or math.isnan(v) else v for v in (row["label_0"], row["label_1"])]
    problem = None
    if row["has_label"] is False or labels == [None, None]:
        labels = [None, None]
    elif labels not in ([1, 0], [0, 1], [0.5, 0.5]):
        stated = f"label_0 is {labels[0]}, label_1 is {labels[1]}"
        problem = f"the labels are none of 1 and 0, 0 and 1, .5 and .5 ({stated})"
        labels = [None, None]
    time = row["created_at"].replace(tzinfo=UTC)
    user = row["user_id"]
    bare = "jpg_0" not in pq.read_schema(file).names
    sides = [
        SourceImage(
            row[f"image_{slot}_uid"] or "",
            None if bare else Reference(str(file), number, f"jpg_{slot}"),
        )
        for slot in (0, 1)
    ]
    return SourceRow(
        prompt=row["caption"],
        image_0=sides[0],
        image_1=sides[1],
        label=labels[0],
        split="train",
        annotator=None if user is None else str(user),
        time=time,
        extra={name: value for name, value in row.items() if name not in ours},
        distinguishing=(str(row["ranking_id"]), str(user or ""), time.isoformat()),
        source_file=str(file),
        source_row=number,
        problem=problem,
    )


@pytest.mark.parametrize("mode", ["copy", "reference"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(made=SOURCE_ROWS)
def test_columns_make_the_store_that_the_rules_make_of_rows_one_by_one(mode, made):
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        table = pa.Table.from_pylist([source_row(k) | row for k, row in enumerate(made)], SCHEMA)
        if mode == "copy":  # the edition without images
            table = table.drop_columns(["jpg_0", "jpg_1"])
        pq.write_table(table, work / "train.parquet", row_group_size=5)
        fast, slow = create_store(work / "fast"), create_store(work / "slow")
        quick = ingest(fast, "pickapic", work / "train.parquet", images=mode)
        one_by_one = [by_the_rules(work / "train.parquet", k, row) for k, row in enumerate(made)]
        assert quick == ingest_rows(
            slow, "pickapic", one_by_one, images=mode, labels_are_votes=True
        )
        for table_name in ("pairs", "images", "votes", "quarantine"):
            assert rows(fast, table_name) == rows(slow, table_name), table_name


TAR = pytest.mark.skipif("webdataset" not in SOURCES, reason="there is no source webdataset")
GRADED = ((1.0, None), (0.7, 10.0), (0.3, 10.0), (0.5, 4.0), (0.0, None), (None, None))


def graded_store(folder: Path) -> Store:
    """Graded and weighted labels, two splits that alternate, and two axes with gaps."""
    made = [
        SourceRow(
            prompt=f"prompt {k}",
            image_0=SourceImage(f"a{k}", images(Pair(f"p{k}", 1.0, (k, k), 1.0))[0]),
            image_1=SourceImage(f"b{k}", images(Pair(f"p{k}", 1.0, (k, k), 1.0))[1]),
            label=label,
            label_weight=weight,
            split=("train", "test")[k % 2],
            axes={"alignment": AxisLabel(1 - k / 16, 3.0)}
            | ({"motion": AxisLabel(0.2)} if k % 2 else {}),
            extra={"model_0": "m", "__index_level_0__": 70 - k},
        )
        for k, (label, weight) in enumerate(GRADED * 2)
    ]
    store = create_store(folder)
    ingest_rows(store, "rapidata", made)
    return store


def stated(store: Store) -> dict[str, tuple]:
    """prompt -> what the store says of the pair, axes with their weights too."""
    axes: dict[str, dict] = {}
    for row in rows(store, "axes"):
        axes.setdefault(row["pair_id"], {})[row["axis"]] = (row["label"], row["label_weight"])
    return {
        pair["prompt"]: (
            *(pair["label"], pair["label_weight"], pair["split"], pair["image_0"]),
            *(int(pair["src___index_level_0__"]), axes.get(pair["pair_id"], {})),
        )
        for pair in rows(store, "pairs")
    }


@pytest.mark.parametrize(
    ("name", "kind", "where", "options"),
    [
        ("pickapic", "pickapic", "data", {}),
        ("chosen-rejected", "chosen-rejected", "data", {}),
        (
            "offline-pairs",
            "chosen-rejected",
            "data",
            {"chosen_column": "img_win", "rejected_column": "img_lose"},
        ),
        pytest.param("webdataset", "webdataset", "data", {}, marks=TAR),
    ],
)
def test_grades_weights_splits_order_and_axes_come_back(tmp_path, name, kind, where, options):
    store = graded_store(tmp_path / "s")
    can_tie = FORMATS[name].undecided
    policy = Policy(keep_ties=can_tie, keep_unlabelled=can_tie)
    outcome = export_set(store, tmp_path / "out", policy, name)
    assert "4 labels are graded: label_0 is the side" in "\n".join(outcome.lines())
    again = create_store(tmp_path / "again")
    ingest(again, kind, tmp_path / "out" / where, **options)
    expected = stated(store)
    if not can_tie:
        expected = {k: v for k, v in expected.items() if v[0] not in (None, 0.5)}
    assert stated(again) == expected
    export_set(again, tmp_path / "twice", policy, name)
    for file in (tmp_path / "out" / where).glob("*.parquet"):
        twice = pq.read_table(tmp_path / "twice" / where / file.name)
        table = pq.read_table(file)
        same = ["label", "label_weight", "split", "axis_alignment", "axis_motion"]
        assert twice.select(same).equals(table.select(same))
        assert [n for n in twice.column_names if n.startswith("axis_")] == [
            n for n in table.column_names if n.startswith("axis_")
        ]


def test_readers_of_0_and_1_get_the_side_that_a_grade_leans_to(tmp_path):
    store = graded_store(tmp_path / "s")
    export_set(store, tmp_path / "p", Policy(), "pickapic")
    rows_ = pq.read_table(tmp_path / "p" / "data").to_pylist()
    assert {(r["label"], r["label_0"], r["label_1"], r["best_image_uid"][0]) for r in rows_} == {
        (1.0, 1.0, 0.0, "a"),
        (0.7, 1.0, 0.0, "a"),
        (0.3, 0.0, 1.0, "b"),
        (0.0, 0.0, 1.0, "b"),
    }
    export_set(store, tmp_path / "k", Policy(), "kohya")
    meta = [json.loads(line) for line in (tmp_path / "k" / "metadata.jsonl").open()]
    assert sorted(row["preference"] for row in meta) == [0.7] * 4 + [1.0] * 4
    export_set(store, tmp_path / "w", Policy(), "weights")
    table = pq.read_table(tmp_path / "w" / "weights.parquet")
    labels = np.load(tmp_path / "w" / "labels.npy")
    assert table["label"].to_pylist()[:3] == [1.0, 0.7, 0.3]
    assert table["label_0"].to_pylist()[:3] == [1.0, 1.0, 0.0]
    assert labels[:3].tolist() == pytest.approx([1.0, 0.7, 0.3])
    assert "Graded labels: 4" in (tmp_path / "k" / "README.md").read_text()


@TAR
def test_a_webdataset_of_an_earlier_version_is_read(tmp_path):
    """Its images are KEY.jpg_0 and KEY.jpg_1, and its JSON knows no grades."""
    store = graded_store(tmp_path / "s")
    export_set(store, tmp_path / "out", Policy(), "webdataset")
    (tmp_path / "old").mkdir()
    for path in (tmp_path / "out" / "data").iterdir():
        with tarfile.open(path) as new, tarfile.open(tmp_path / "old" / path.name, "w") as old:
            for member in new.getmembers():
                data = new.extractfile(member).read()
                if member.name.endswith(".json"):
                    row = json.loads(data)
                    added = [n for n in row if n.startswith("axis_") or n in STATED]
                    data = json.dumps({n: v for n, v in row.items() if n not in added}).encode()
                key, _, end = member.name.partition(".")
                entry = tarfile.TarInfo(
                    f"{key}.{end.replace('0.jpg', 'jpg_0').replace('1.jpg', 'jpg_1')}"
                )
                entry.size = len(data)
                old.addfile(entry, io.BytesIO(data))
    again = create_store(tmp_path / "again")
    assert ingest(again, "webdataset", tmp_path / "old").kept == 8
    known = {
        k: (float(v[0] > 0.5), v[3]) for k, v in stated(store).items() if v[0] not in (None, 0.5)
    }
    assert {k: (v[0], v[3]) for k, v in stated(again).items()} == known
