"""What goes in comes out; a policy changes what it says; the folder is all or nothing."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.toolkit.pickapic_source import SCHEMA, source_row, write_source
from toolkit.errors import InputError, OutvotedError
from toolkit.export import Policy, export_set, preview
from toolkit.files.atomic import parts
from toolkit.ingest import SourceImage, SourceRow, ingest, ingest_rows
from toolkit.minority import weight
from toolkit.store import Store, create_store
from toolkit.store.journal import Entry, Journal
from toolkit.store.label_sets import write_label_set
from toolkit.store.pseudonyms import exported_ids
from toolkit.store.runs import start_run, write_findings
from toolkit.store.verdicts import publish

ROWS = 24
EVERYTHING = Policy(keep_ties=True, keep_unlabelled=True, keep=("user_id",))
EXTRA = [
    "sample_weight",
    "minority",
    "confidence",
    "stability",
    "verdict",
    "original_label_0",
    "label",
    "label_weight",
    "split",
    "pair_id",
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """24 rows of labels 1, 0, .5 in turn."""
    path = write_source(tmp_path / "train.parquet", [source_row(k) for k in range(ROWS)])
    made = create_store(tmp_path / "store")
    ingest(made, "pickapic", [path])
    return made


@pytest.fixture
def judged(store: Store) -> Store:
    """The same with a run whose finding ranks the pairs: u = 0, .01, .02 ...; the last unknown."""
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, "")
    ids = pair_ids(store)
    u = [k / 100 for k in range(ROWS - 1)] + [None]
    table = pa.table(
        {
            "pair_id": list(reversed(ids)),
            "visits": pa.array([3] * ROWS, pa.int32()),
            "confidence": pa.array([0.5] * ROWS, pa.float32()),
            "stability": pa.array([0.1] * ROWS, pa.float32()),
            "minority": pa.array(list(reversed(u)), pa.float32()),
        }
    )
    write_findings(store, "r", "minority", table, {"labels": "original"})
    return store


def pair_ids(store: Store) -> list[str]:
    files = parts(store.folder("pairs"))
    return [i for file in files for i in pq.read_table(file, columns=["pair_id"])[0].to_pylist()]


def names(store: Store) -> list[str]:
    """Of the pairs, as they leave."""
    return exported_ids(store)(pair_ids(store))


def exported(out: Path) -> list[dict]:
    return pq.read_table(out / "data").to_pylist()


def judge(store: Store, verdicts: dict[int, str], curator: str = "c") -> None:
    """Publish verdicts on the k-th pairs."""
    ids = pair_ids(store)
    journal = Journal(store.root.parent / f"{curator}.sqlite")
    journal.record([Entry(ids[k], curator, choice) for k, choice in verdicts.items()])
    publish(store, journal)


def decisions(out: Path) -> dict[str, dict]:
    record = json.loads((out / "curation.json").read_text())
    return {entry["pair_id"]: entry for entry in record["decisions"]}


def test_what_goes_in_comes_out(tmp_path, store):
    export_set(store, tmp_path / "out", EVERYTHING)
    found = pq.read_table(tmp_path / "out" / "data").select(SCHEMA.names)
    assert found.schema.remove_metadata().equals(SCHEMA)
    expected = pa.Table.from_pylist([source_row(k) for k in range(ROWS)], schema=SCHEMA)
    assert found.equals(expected)


def test_unlabelled_rows_and_holes_come_out_as_they_were(tmp_path):
    changes = [
        {"has_label": False, "label_0": None, "label_1": None, "best_image_uid": None},
        {"model_0": None, "image_1_url": None, "ranking_id": None, "user_id": None},
        {"created_at": None, "num_example_per_prompt": 9, "are_different": False},
    ]
    rows = [source_row(k, **change) for k, change in enumerate(changes)]
    made = create_store(tmp_path / "s")
    ingest(made, "pickapic", [write_source(tmp_path / "train.parquet", rows)])
    export_set(made, tmp_path / "out", EVERYTHING)
    found = pq.read_table(tmp_path / "out" / "data").select(SCHEMA.names)
    assert found.to_pylist() == pa.Table.from_pylist(rows, schema=SCHEMA).to_pylist()


def test_an_export_can_be_ingested_again_as_the_same_pairs(tmp_path, store):
    export_set(store, tmp_path / "out", EVERYTHING)
    again = create_store(tmp_path / "again")
    summary = ingest(again, "pickapic", [tmp_path / "out" / "data"])
    assert summary.kept == ROWS
    assert pair_ids(again) == pair_ids(store)


def test_our_columns_follow_the_nineteen_in_order(tmp_path, store):
    export_set(store, tmp_path / "out", Policy())
    names = pq.read_schema(next((tmp_path / "out" / "data").iterdir())).names
    assert names == [*SCHEMA.names, *EXTRA]


def test_splits_get_files_of_their_own_in_shards_of_small_row_groups(tmp_path):
    made = create_store(tmp_path / "s")
    for split, numbers in {"train": range(250), "test": range(300, 303)}.items():
        rows = [source_row(k, label_0=1.0, label_1=0.0) for k in numbers]
        path = write_source(tmp_path / f"{split}.parquet", rows)
        ingest(made, "pickapic", [path])
    export_set(made, tmp_path / "out", Policy(), shard_rows=120)
    files = sorted((tmp_path / "out" / "data").iterdir())
    assert [file.name for file in files] == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00003.parquet",
        "train-00001-of-00003.parquet",
        "train-00002-of-00003.parquet",
    ]
    assert [pq.read_metadata(file).num_rows for file in files] == [3, 120, 120, 10]
    for file in files:
        facts = pq.read_metadata(file)
        assert max(facts.row_group(g).num_rows for g in range(facts.num_row_groups)) <= 100
    order = [row["pair_id"] for file in files[1:] for row in pq.read_table(file).to_pylist()]
    assert order == names(made)[:250]


def test_ties_stay_behind_unless_asked_for(tmp_path, store):
    outcome = export_set(store, tmp_path / "out", Policy())
    assert {row["label_0"] for row in exported(tmp_path / "out")} == {0.0, 1.0}
    assert (outcome.counts["dropped"], outcome.counts["before"]["tied"]) == (8, 8)
    assert {entry["by"] for entry in decisions(tmp_path / "out").values()} == {"policy"}


def chosen_by_diffusers(row: dict) -> tuple[bytes, bytes]:
    """(chosen, rejected) as the public diffusers script reads a row: it knows 0 and not-0."""
    images = (row["jpg_0"], row["jpg_1"])
    return images[::-1] if row["label_0"] == 0 else images


def test_public_trainers_read_chosen_and_rejected_as_our_labels_say(tmp_path, judged):
    judge(judged, {0: "image_1", 1: "image_0", 3: "image_0", 6: "tie", 9: "drop"})
    export_set(judged, tmp_path / "out", Policy(run="r", drop_top=0.1))
    rows = exported(tmp_path / "out")
    # Diffusion-DPO keeps what `label_0 in (0, 1)`; nothing may be left for diffusers to misread
    assert all(row["label_0"] in (0, 1) for row in rows)
    assert all(row["label_0"] + row["label_1"] == 1 for row in rows)
    number = {pair_id: k for k, pair_id in enumerate(names(judged))}
    flipped = {0, 1}
    for row in rows:
        k = number[row["pair_id"]]
        source = source_row(k)
        assert row["caption"] == source["caption"]
        first = (source["label_0"] == 1.0) != (k in flipped)
        expected = (source["jpg_0"], source["jpg_1"])
        assert chosen_by_diffusers(row) == (expected if first else expected[::-1])
        chosen_uid = row["image_0_uid"] if row["label_0"] == 1 else row["image_1_uid"]
        assert row["best_image_uid"] == chosen_uid
        with Image.open(io.BytesIO(row["jpg_0"])) as picture:
            assert picture.convert("RGB").size == (12, 12)


def test_every_verdict_does_what_it_says_and_no_more(tmp_path, store):
    # rows 0, 3, 6 ... are labelled 1; 1, 4, 7 ... 0; 2, 5, 8 ... tied
    judge(store, {0: "image_0", 1: "image_0", 3: "tie", 4: "drop", 6: "unsure", 2: "image_1"})
    export_set(store, tmp_path / "out", Policy(keep_ties=True))
    rows = {row["pair_id"]: row for row in exported(tmp_path / "out")}
    ids = names(store)

    def of(k: int) -> tuple:
        row = rows[ids[k]]
        return row["verdict"], row["label_0"], row["label_1"], row["original_label_0"]

    assert of(0) == ("keep", 1.0, 0.0, 1.0)
    assert of(1) == ("flip", 1.0, 0.0, 0.0)
    assert of(3) == ("tie", 0.5, 0.5, 1.0)
    assert ids[4] not in rows
    assert of(6) == ("unsure", 1.0, 0.0, 1.0)
    assert of(2) == ("flip", 0.0, 1.0, 0.5)
    assert of(7) == (None, 0.0, 1.0, 0.0)
    record = decisions(tmp_path / "out")
    actions = {k: record[ids[k]]["action"] for k in (0, 1, 3, 4, 6, 2)}
    assert actions == {0: "kept", 1: "flipped", 3: "tied", 4: "dropped", 6: "kept", 2: "flipped"}
    assert all(record[ids[k]]["by"] == "curator" for k in actions)
    assert record[ids[1]]["verdict_id"]


def test_a_tie_verdict_never_leaves_as_image_0_wins(tmp_path, store):
    judge(store, {0: "tie"})
    export_set(store, tmp_path / "out", Policy())
    assert names(store)[0] not in {row["pair_id"] for row in exported(tmp_path / "out")}
    entry = decisions(tmp_path / "out")[names(store)[0]]
    assert (entry["action"], entry["by"]) == ("dropped", "curator")
    assert entry["why"] == "verdict tie: a tie, without --keep-ties"


def test_verdicts_win_over_scores(tmp_path, judged):
    known = [k for k in range(ROWS - 1) if k % 3 != 2]
    top = known[-4:]  # u grows with k
    judge(judged, {top[0]: ("image_1", "image_0")[source_row(top[0])["label_0"] == 1.0]})
    judge(judged, {top[1]: "unsure"}, curator="d")
    policy = Policy(run="r", drop_top=4 / len(known))
    outcome = export_set(judged, tmp_path / "out", policy)
    kept = {row["pair_id"] for row in exported(tmp_path / "out")}
    ids = names(judged)
    assert ids[top[0]] in kept  # keep, said the curator
    assert not kept & {ids[k] for k in top[1:]}
    assert outcome.counts["dropped"] == 3 + 8


def test_verdicts_can_be_left_out(tmp_path, store):
    judge(store, {0: "drop"})
    export_set(store, tmp_path / "out", Policy(verdicts=False))
    rows = exported(tmp_path / "out")
    assert names(store)[0] in {row["pair_id"] for row in rows}
    assert {row["verdict"] for row in rows} == {None}


def test_drop_top_takes_the_highest_share_of_the_pairs_with_a_score(tmp_path, judged):
    known = [k for k in range(ROWS - 1) if k % 3 != 2]
    export_set(judged, tmp_path / "out", Policy(run="r", drop_top=0.25))
    gone = {k for k, v in decisions(tmp_path / "out").items() if v["by"] != "policy"}
    expected = sorted(known)[-int(0.25 * len(known)) :]
    assert gone == {names(judged)[k] for k in expected}
    entry = decisions(tmp_path / "out")[names(judged)[expected[0]]]
    assert entry["by"] == "finding minority of run r"


def test_a_threshold_drops_what_passes_it_and_never_the_unknown(tmp_path, judged):
    export_set(judged, tmp_path / "out", Policy(run="r", drop=("minority > 0.095",)))
    rows = exported(tmp_path / "out")
    assert max(row["minority"] for row in rows if row["minority"] is not None) < 0.095
    assert names(judged)[ROWS - 1] not in {r["pair_id"] for r in rows}  # a tie, k % 3 == 2
    export_set(judged, tmp_path / "ties", Policy(run="r", drop=("minority>=0",), keep_ties=True))
    [unknown] = [row for row in exported(tmp_path / "ties") if row["minority"] is None]
    assert unknown["pair_id"] == names(judged)[ROWS - 1]


def test_flip_top_reverses_labels_and_keeps_the_original_beside(tmp_path, judged):
    export_set(judged, tmp_path / "out", Policy(run="r", flip_top=0.25, reweight=True))
    changed = [r for r in exported(tmp_path / "out") if r["label_0"] != r["original_label_0"]]
    assert len(changed) == 4
    for row in changed:
        assert row["label_0"] == 1 - row["original_label_0"]
        assert row["sample_weight"] == 1  # u spoke of the label that is gone


def test_reweight_is_equation_15_and_1_where_u_is_unknown(tmp_path, judged):
    policy = Policy(run="r", reweight=True, k1=4.0, keep_ties=True)
    export_set(judged, tmp_path / "out", policy)
    for row in exported(tmp_path / "out"):
        u = np.array([np.nan if row["minority"] is None else row["minority"]])
        assert row["sample_weight"] == pytest.approx(weight(u, "linear", 4.0)[0], rel=1e-6)
    assert any(
        row["minority"] is None and row["sample_weight"] == 1 for row in exported(tmp_path / "out")
    )


def test_without_reweight_every_weight_is_1(tmp_path, judged):
    export_set(judged, tmp_path / "out", Policy(run="r"))
    assert {row["sample_weight"] for row in exported(tmp_path / "out")} == {1.0}


def test_scores_speak_only_of_the_label_set_they_were_made_under(tmp_path, judged):
    ids = pair_ids(judged)
    overlay = pa.table({"pair_id": [ids[0]], "label": pa.array([0.0], pa.float32())})
    write_label_set(judged, "other", overlay, {"kind": "test"})
    policy = Policy(run="r", labels="other", reweight=True, drop=("minority >= 0",))
    export_set(judged, tmp_path / "out", policy)
    [row] = exported(tmp_path / "out")
    assert (row["pair_id"], row["label_0"], row["original_label_0"]) == (names(judged)[0], 0.0, 1.0)
    assert (row["minority"], row["sample_weight"]) == (None, 1.0)


def test_the_labels_of_the_finding_are_the_default(tmp_path, make_store):
    from analysis.run_analysis import analyze_run
    from toolkit.store.label_sets import planted_flips

    made = make_store(pairs=40, run=True)
    analyze_run(made, "r")
    export_set(made, tmp_path / "out", Policy(run="r", drop_top=0.1))
    rows = exported(tmp_path / "out")
    flipped = set(exported_ids(made)(planted_flips(made, "flip20")))
    for row in rows:
        assert (row["label_0"] != row["original_label_0"]) == (row["pair_id"] in flipped)
        assert row["minority"] is not None
    record = json.loads((tmp_path / "out" / "curation.json").read_text())
    left = len(flipped & {row["pair_id"] for row in rows})
    assert record["counts"]["not_the_sources"] == left > 0
    assert record["counts"]["planted"] == left


def test_planted_flips_do_not_leave_without_a_warning(tmp_path, make_store):
    """Eight of 40 labels are planted; under a set made from theirs the rest of them still are."""
    from analysis.run_analysis import analyze_run
    from toolkit.labels.stated import labels_of_verdicts
    from toolkit.store.label_sets import planted_flips

    made = make_store(pairs=40, run=True)
    analyze_run(made, "r")
    flipped = planted_flips(made, "flip20")
    policy = Policy(run="r")
    says = (
        "Warning: 8 of these labels are wrong on purpose, planted flips of the label set flip20; "
        "--labels original exports your own."
    )
    assert len(flipped) == 8
    assert preview(made, policy).lines()[1] == says
    outcome = export_set(made, tmp_path / "own", Policy(run="r", labels="original"))
    assert not any(line.startswith("Warning") for line in outcome.lines())
    assert all(row["label_0"] == row["original_label_0"] for row in exported(tmp_path / "own"))
    at = pair_ids(made).index(flipped[0])
    under = {row["pair_id"]: row["label_0"] for row in exported(tmp_path / "own")}
    judge(made, {at: "image_0" if under[names(made)[at]] == 1 else "image_1"})  # the true label
    assert "Warning: 7 of these labels" in preview(made, policy).lines()[1]
    labels_of_verdicts(made, "mended", base="flip20")
    assert "7 of these labels" in preview(made, Policy(run="r", labels="mended")).lines()[1]


def test_the_same_export_is_the_same_bytes(tmp_path, judged):
    judge(judged, {0: "image_1", 4: "drop"})
    policy = Policy(run="r", drop_top=0.1, reweight=True)
    for name in ("one", "two"):
        export_set(judged, tmp_path / name, policy, command="outvoted export S")
    files = [p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()]
    assert len(files) == 3
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_annotators_leave_under_pseudonyms_whose_key_stays(tmp_path, store):
    export_set(store, tmp_path / "out", Policy(keep_ties=True))
    users = [row["user_id"] for row in exported(tmp_path / "out")]
    assert len(set(users)) == 5
    assert not set(users) & {70, 71, 72, 73, 74}
    key = store.folder("pseudonyms.key")
    assert key.stat().st_mode & 0o777 == 0o600
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            assert key.read_bytes() not in file.read_bytes()
            assert key.read_bytes().hex().encode() not in file.read_bytes()
    key.unlink()
    export_set(store, tmp_path / "other", Policy(keep_ties=True))
    assert not set(users) & {row["user_id"] for row in exported(tmp_path / "other")}


def test_annotators_with_words_for_names_leave_only_under_pseudonyms(tmp_path, make_store):
    made = make_store(pairs=8)
    with pytest.raises(InputError, match="user_id holds whole numbers; leave out --keep user_id"):
        export_set(made, tmp_path / "out", Policy(keep=("user_id",)))
    assert list(tmp_path.glob("*out*")) == []
    export_set(made, tmp_path / "out", Policy())


def test_an_existing_folder_is_refused_and_left_alone(tmp_path, store):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists already; name a new folder with --out"):
        export_set(store, tmp_path / "out", Policy())
    assert list((tmp_path / "out").iterdir()) == []


def test_a_failure_in_the_middle_leaves_nothing(tmp_path):
    source = write_source(tmp_path / "train.parquet", [source_row(k) for k in range(ROWS)])
    made = create_store(tmp_path / "s")
    ingest(made, "pickapic", [source], images="reference")
    export_set(made, tmp_path / "fine", Policy())
    source.unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="The export stopped and left nothing: image uid-"):
        export_set(made, tmp_path / "out", Policy())
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, store, monkeypatch):
    import os

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    store.folder("pseudonyms.key").write_bytes(b"k" * 32)
    monkeypatch.setattr(os, "fsync", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"No space left on device.*nothing was left there"):
        export_set(store, tmp_path / "out", Policy())
    assert sorted(tmp_path.iterdir()) == before


def test_pairs_without_images_leave_only_without_the_image_columns(tmp_path):
    rows = [source_row(k) for k in range(6)]
    path = write_source(tmp_path / "train.parquet", rows, drop=("jpg_0", "jpg_1"))
    made = create_store(tmp_path / "s")
    ingest(made, "pickapic", [path])
    with pytest.raises(InputError, match=r"has no image uid-00000 and \d+ more.*--no-images"):
        export_set(made, tmp_path / "out", Policy())
    export_set(made, tmp_path / "out", Policy(images=False))
    names = pq.read_table(tmp_path / "out" / "data").column_names
    assert names == [name for name in [*SCHEMA.names, *EXTRA] if not name.startswith("jpg")]


def test_a_store_of_another_source_comes_out_in_the_same_columns(tmp_path):
    from tests.factories import png

    rows = [
        SourceRow(
            "a red ring",
            SourceImage(None, png((k, 1, 2))),
            SourceImage(None, png((k, 3, 4))),
            float(k % 2),
            annotator=f"person {k}",
            extra={"model_0": "m", "ranking_id": "not a number"},
        )
        for k in range(5)
    ]
    made = create_store(tmp_path / "s")
    ingest_rows(made, "elsewhere", rows)
    export_set(made, tmp_path / "out", Policy())
    table = pq.read_table(tmp_path / "out" / "data")
    assert table.select(SCHEMA.names).schema.remove_metadata().equals(SCHEMA)
    first = table.to_pylist()[0]
    assert first["best_image_uid"] == first["image_1_uid"]
    assert (first["ranking_id"], first["num_example_per_prompt"]) == (None, 5)
    assert (first["model_0"], first["are_different"], first["has_label"]) == ("m", True, True)


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (Policy(drop_top=0.1), "need the scores of a run; name it with --run"),
        (Policy(reweight=True), "need the scores of a run; name it with --run"),
        (Policy(run="r", drop_top=1.5), "--drop-top is 1.5; it must be from 0 to 1"),
        (Policy(run="r", flip_top=float("nan")), "--flip-top is nan; it must be from 0 to 1"),
        (Policy(run="r", drop=("minority",)), "is no comparison; write COLUMN > NUMBER"),
        (Policy(run="r", drop=("beauty > 1",)), "has no column 'beauty' (columns: visits, conf"),
        (Policy(run="r", drop_top=0.1, flip_top=0.1), "choose one"),
        (Policy(run="q", drop_top=0.1), "has no run 'q' (runs: r)"),
        (Policy(run="r", finding="loss", drop_top=0.1), "has no finding 'loss'"),
        (Policy(labels="curated"), "has no label set 'curated'"),
        (Policy(run="r", drop=("minority >= 0",)), "Nothing is left of the store's 24 pairs"),
        (Policy(run="r", k1=-1), "--k1 is -1; it must be from 0 to 1e+06"),
        (
            Policy(run="r", reweight=True, k1=float("nan")),
            "--k1 is nan; it must be from 0 to 1e+06",
        ),
        (
            Policy(run="r", reweight=True, k1=float("inf")),
            "--k1 is inf; it must be from 0 to 1e+06",
        ),
    ],
)
def test_a_policy_that_cannot_be_followed_is_one_sentence(tmp_path, judged, policy, sentence):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutvotedError) as caught:
        export_set(judged, tmp_path / "out", policy)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_store_is_one_sentence(tmp_path):
    made = create_store(tmp_path / "s")
    with pytest.raises(InputError, match="Nothing is left of the store's 0 pairs"):
        export_set(made, tmp_path / "out", Policy())


def test_curation_json_accounts_for_every_pair(tmp_path, judged):
    judge(judged, {0: "image_1", 3: "drop"})
    policy = Policy(run="r", drop_top=0.1)
    outcome = export_set(judged, tmp_path / "out", policy, command="outvoted export S")
    record = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert record["command"] == "outvoted export S"
    assert record["policy"]["drop_top"] == 0.1
    counted = record["counts"]
    assert counted == outcome.counts
    assert counted["before"]["pairs"] - counted["dropped"] == counted["after"]["pairs"]
    assert sum(counted["reasons"].values()) == len(record["decisions"])
    gone = {e["pair_id"] for e in record["decisions"] if e["action"] == "dropped"}
    left = {row["pair_id"] for row in exported(tmp_path / "out")}
    assert gone | left == set(names(judged))
    assert not gone & left
    before = record["balance"]["models"]["before"]
    assert before["gamma"]["pairs"] == ROWS
    assert before["alpha"]["chosen"] + before["beta"]["chosen"] + before["gamma"]["chosen"] == ROWS
    assert record["balance"]["prompts"]["before"]["prompts"] == 6
    hashed = record["inputs"]["files"]
    assert {name.split("/")[0] for name in hashed} == {"pairs", "votes", "verdicts", "findings"}
    assert [facts["rows"] for facts in record["outputs"].values()] == [len(left)]


def test_input_hashes_change_when_an_input_does(tmp_path, judged):
    export_set(judged, tmp_path / "one", Policy(run="r"))
    about = pq.read_table(judged.findings("r") / "minority.parquet").slice(1)
    write_findings(judged, "r", "minority", about, {"labels": "original"})
    export_set(judged, tmp_path / "two", Policy(run="r"))
    one, two = (
        json.loads((tmp_path / name / "curation.json").read_text())["inputs"]
        for name in ("one", "two")
    )
    assert one["images"] == two["images"]
    changed = {name for name in one["files"] if one["files"][name] != two["files"][name]}
    assert changed == {"findings/r/minority.parquet"}


def test_the_card_is_a_valid_one_and_names_every_column(tmp_path, judged):
    from huggingface_hub import DatasetCard

    policy = Policy(run="r", drop_top=0.1, reweight=True)
    export_set(judged, tmp_path / "out", policy, command="outvoted export S --run r")
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    [config] = card.data.configs
    assert config["data_files"] == [{"split": "train", "path": "data/train-*"}]
    for name in [*SCHEMA.names, *EXTRA]:
        assert f"| `{name}` |" in card.text
    assert "outvoted export S --run r" in card.text
    assert "{{" not in card.text
    assert "{%" not in card.text


def test_a_preview_counts_the_same_and_writes_nothing(tmp_path, judged):
    policy = Policy(run="r", drop_top=0.2)
    before = sorted(tmp_path.rglob("*"))
    seen = preview(judged, policy)
    assert sorted(tmp_path.rglob("*")) == before
    assert seen.counts == export_set(judged, tmp_path / "out", policy).counts


def command(*arguments: object) -> tuple[int, str, BaseException | None]:
    from app.cli.main import registered

    words = ["export", *(str(argument) for argument in arguments)]
    result = CliRunner().invoke(registered(), words)
    return result.exit_code, result.output, result.exception


def test_the_command_previews_then_writes(tmp_path, judged):
    options = (judged.root, "--run", "r", "--drop", "minority > 0.1", "--drop", "confidence > 0.9")
    code, shown, _ = command(*options, "--preview")
    assert code == 0, shown
    assert shown.startswith("8 of 24 pairs: 4 ties left out, 12 dropped.\n")
    code, written, _ = command(*options, "--out", tmp_path / "out")
    assert code == 0
    assert written == shown + f"written to {tmp_path / 'out'}\n"


def test_the_command_needs_out_or_preview_and_a_known_format(tmp_path, store):
    _, _, problem = command(store.root)
    assert "--out is missing" in str(problem)
    _, _, problem = command(store.root, "--out", tmp_path / "o", "--format", "csv")
    assert "There is no format 'csv'; --format is pickapic, " in str(problem)
