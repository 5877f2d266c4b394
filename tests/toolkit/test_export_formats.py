"""Every way out holds the same pairs, labels and weights, in the form that its readers know."""

import io
import json
import signal
import subprocess
import sys
import tarfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from app.cli import export as export_command
from app.cli.main import registered
from tests.toolkit.pickapic_source import picture, source_row, write_source
from tests.toolkit.stores import rows
from toolkit.errors import InputError
from toolkit.export import FORMATS, Policy, export_set
from toolkit.export.decisions import make_plan
from toolkit.files.atomic import unfinished_name
from toolkit.ingest import ingest
from toolkit.store import Store, create_store
from toolkit.store.images import ImageReader
from toolkit.store.journal import Entry, Journal
from toolkit.store.pseudonyms import exported_ids
from toolkit.store.runs import start_run, write_findings
from toolkit.store.verdicts import publish

ROWS = 24


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """24 rows of labels 1, 0, .5 in turn; pair 0 judged to be the other way, pair 3 to go."""
    path = write_source(
        tmp_path / "train.parquet",
        [source_row(k) | {"nsfw": k % 4 == 0} for k in range(ROWS)],
        schema=_schema(),
    )
    made = create_store(tmp_path / "store")
    ingest(made, "pickapic", [path])
    ids = [pair["pair_id"] for pair in rows(made, "pairs")]
    journal = Journal(tmp_path / "v.sqlite")
    journal.record([Entry(ids[0], "c", "image_1"), Entry(ids[3], "c", "drop")])
    publish(made, journal)
    start_run(made, "r", {"models": ["policy"], "labels": "original"}, "")
    u = pa.array([k / 100 for k in range(ROWS)], pa.float32())
    write_findings(made, "r", "minority", pa.table({"pair_id": ids, "minority": u}), {})
    noise = pa.table({"pair_id": ids, "probability": [k / ROWS for k in range(ROWS)]})
    write_findings(made, "r", "noise", noise, {})
    return made


def _schema() -> pa.Schema:
    from tests.toolkit.pickapic_source import SCHEMA

    return SCHEMA.append(pa.field("nsfw", pa.bool_()))


def expected(keep: range = range(ROWS)) -> dict[str, tuple[str, bytes, bytes]]:
    """caption with ranking: prompt, chosen and rejected bytes, of what the verdicts leave."""
    found = {}
    for k in keep:
        row = source_row(k)
        label = row["label_0"]
        if label == 0.5 or k == 3:
            continue
        label = 1 - label if k == 0 else label
        sides = (row["jpg_0"], row["jpg_1"]) if label == 1 else (row["jpg_1"], row["jpg_0"])
        found[row["image_0_uid"]] = (row["caption"], *sides)
    return found


def export(store: Store, out: Path, name: str, policy: Policy = Policy(), **options):  # noqa: B008
    return export_set(store, out, policy, FORMATS[name], **options)


def test_chosen_and_rejected_are_images_for_datasets_readers_with_the_flip_applied(tmp_path, store):
    export(store, tmp_path / "out", "chosen-rejected")
    table = pq.read_table(tmp_path / "out" / "data")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["chosen"] == features["rejected"] == {"_type": "Image"}
    assert set(features) == set(table.column_names)
    found = {}
    for row in table.to_pylist():
        uid = row["chosen_uid"] if row["label_0"] == 1 else row["rejected_uid"]
        found[uid] = (row["prompt"], row["chosen"]["bytes"], row["rejected"]["bytes"])
        assert row["chosen"]["path"] == f"{row['chosen_uid']}.png"
    assert found == expected()


def test_a_webdataset_holds_two_images_and_a_json_a_pair(tmp_path, store):
    export(store, tmp_path / "out", "webdataset", shard_rows=6)
    tars = sorted((tmp_path / "out" / "data").iterdir())
    assert [tar.name for tar in tars][:1] == ["train-00000-of-00003.tar"]
    found = {}
    for tar in tars:
        with tarfile.open(tar) as opened:
            files = {m.name: opened.extractfile(m).read() for m in opened.getmembers()}
        for name in [name for name in files if name.endswith(".json")]:
            key = name.removesuffix(".json")
            row = json.loads(files[name])
            assert row["pair_id"] == key
            sides = [files[f"{key}.{slot}.jpg"] for slot in (0, 1)]
            if row["label_0"] == 0:
                sides.reverse()
            found[row["image_0_uid"]] = (row["caption"], *sides)
    assert found == expected()


def test_weights_stand_in_the_stores_order_with_nothing_left_out(tmp_path, store):
    policy = Policy(run="r", reweight=True, keep_ties=True)
    export(store, tmp_path / "out", "weights", policy)
    table = pq.read_table(tmp_path / "out" / "weights.parquet")
    own = [pair["pair_id"] for pair in rows(store, "pairs")]
    assert table["pair_id"].to_pylist() == exported_ids(store)(own)
    weights, labels = (np.load(tmp_path / "out" / f"{n}.npy") for n in ("weights", "labels"))
    assert np.array_equal(weights, table["sample_weight"].to_numpy())
    hand = 1 / (1 + 10 * np.arange(ROWS) / 100)
    hand[0], hand[3] = 1, 0  # flipped: u spoke of the other label; dropped by a verdict
    assert weights == pytest.approx(hand, rel=1e-6)
    assert (labels[0], labels[1], labels[2]) == (0.0, 0.0, 0.5)
    assert table["kept"].to_pylist().count(False) == 1


def test_folders_of_winners_and_losers_have_equal_names_and_captions(tmp_path, store):
    export(store, tmp_path / "out", "kohya")
    winners, losers = ({p.name for p in (tmp_path / "out" / side).iterdir()} for side in "wl")
    assert winners == losers
    assert len(winners) == 2 * len(expected())
    meta = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").open()]
    found = set()
    for row in meta:
        caption = (tmp_path / "out" / "w" / f"{row['pair_id']}.txt").read_text()
        found.add((caption, *((tmp_path / "out" / row[side]).read_bytes() for side in "wl")))
    assert found == set(expected().values())


@pytest.mark.parametrize("name", ["chosen-rejected", "kohya"])
def test_ties_never_leak_out_as_a_preference(tmp_path, store, name):
    with pytest.raises(InputError, match="cannot say that a pair is tied"):
        export(store, tmp_path / "out", name, Policy(keep_ties=True))
    assert not (tmp_path / "out").exists()


def test_a_format_made_of_images_is_not_written_without(tmp_path, store):
    with pytest.raises(InputError, match="is made of images; leave out --no-images"):
        export(store, tmp_path / "out", "webdataset", Policy(images=False))


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_has_its_record_and_card_and_is_the_same_bytes_again(tmp_path, store, name):
    for out in ("one", "two"):
        export(store, tmp_path / out, name, command="outvoted export ...")
    files = sorted(p for p in (tmp_path / "one").rglob("*") if p.is_file())
    for file in files:
        again = tmp_path / "two" / file.relative_to(tmp_path / "one")
        assert file.read_bytes() == again.read_bytes(), file.name
    record = json.loads((tmp_path / "one" / "curation.json").read_text())
    assert record["format"] == name
    assert record["store"] == json.loads((store.root / "store.json").read_text())["store_id"]
    card = (tmp_path / "one" / "README.md").read_text()
    for column in FORMATS[name].columns(Policy()).names:
        assert f"| `{column}` |" in card
    for output, facts in record["outputs"].items():
        assert (tmp_path / "one" / output).exists()
        assert len(facts["sha256"]) == 64


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_failure_on_the_way_leaves_nothing_behind(tmp_path, store, name, monkeypatch):
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("toolkit.export.write_text", full)
    with pytest.raises(InputError, match=r"No space left on device.*nothing was left there"):
        export(store, tmp_path / "out", name)
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


def test_where_flip_drop_and_weight_by_columns_of_other_findings(tmp_path, store):
    policy = Policy(
        run="r",
        where="not nsfw",
        drop=("noise.probability >= 0.9",),
        flip=("noise.probability < 0.1",),
        weight="1 - noise.probability",
        verdicts=False,
    )
    export(store, tmp_path / "out", "weights", policy)
    table = pq.read_table(tmp_path / "out" / "weights.parquet").to_pylist()
    for k, row in enumerate(table):
        label = source_row(k)["label_0"]
        p = k / ROWS
        gone = k % 4 == 0 or label == 0.5 or p >= 0.9
        assert row["kept"] == (not gone), k
        assert row["label_0"] == (1 - label if p < 0.1 else label)
        # a flipped label is another label than the score was computed under: weight 1
        hand = 0 if gone else (1 if p < 0.1 else 1 - p)
        assert row["sample_weight"] == pytest.approx(hand)
    record = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert record["counts"]["reasons"]["dropped: outside --where (policy)"] == 6


def test_a_drop_is_recorded_under_the_finding_that_decided(tmp_path, store):
    """The main finding is minority: what another finding or no finding decides is not its doing."""
    drops = ("noise.probability >= 0.9", "minority < 0.02 or noise.probability < 0", "not nsfw")
    policy = Policy(run="r", drop=drops[:2], where="nsfw or not nsfw", verdicts=False)
    reasons = export(store, tmp_path / "out", "weights", policy).counts["reasons"]
    assert {why: n for why, n in reasons.items() if "tie" not in why} == {
        "dropped: minority < 0.02 or noise.probability < 0 (findings minority, noise of run r)": 2,
        "dropped: noise.probability >= 0.9 (finding noise of run r)": 2,
    }
    only = export(store, tmp_path / "two", "weights", Policy(run="r", drop=drops[2:]))
    assert "dropped: not nsfw (condition)" in only.counts["reasons"]


def test_the_newest_run_with_the_finding_is_used_where_keywords_need_scores(tmp_path, store):
    outcome = export_set(store, tmp_path / "out", drop="minority > 0.1", verdicts=False)
    record = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert record["policy"]["run"] == "r"
    assert outcome.counts["dropped"] > 0
    export_set(store, tmp_path / "two", where="votes > 0", verdicts=False)
    record = json.loads((tmp_path / "two" / "curation.json").read_text())
    assert record["policy"]["run"] is None
    with pytest.raises(InputError, match=r"has no column 'beauty'"):
        export_set(store, tmp_path / "three", drop="beauty > 0.1")


def test_a_format_is_one_file_and_one_line(tmp_path, store, monkeypatch):
    (tmp_path / "captions_format.py").write_text(
        "from typing import Annotated\n"
        "from toolkit.export import Format\n"
        "from toolkit.export import table\n"
        "def write(job, *, level: Annotated[int, 'How loud.', (0, 9)] = 3):\n"
        "    rows = [r for _, t in job.tables(table.schema()) for r in t['caption'].to_pylist()]\n"
        "    (job.aside / 'captions.txt').write_text('\\n'.join(rows) + '!' * level)\n"
        "    return {'captions.txt': {'rows': len(rows), 'sha256': '0' * 64}}\n"
        "FORMAT = Format('captions', 'captions alone', lambda _: table.schema(), write)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(FORMATS, "captions", import_module("captions_format").FORMAT)
    export_command._command.cache_clear()
    try:
        run = CliRunner().invoke
        shown = run(registered(), ["export", "--help"], terminal_width=80).output
        assert "captions: captions alone" in " ".join(shown.split())
        assert "How loud." in shown
        words = ["export", str(store.root), "--format", "captions", "--level", "2"]
        done = run(registered(), [*words, "--out", str(tmp_path / "out")])
        assert done.exit_code == 0, done.output
        assert (tmp_path / "out" / "captions.txt").read_text().endswith("!!")
        refused = run(registered(), [*words[:2], "--out", str(tmp_path / "o"), "--level", "2"])
        assert "Format pickapic has no option level" in str(refused.exception)
    finally:
        export_command._command.cache_clear()


def test_the_table_of_the_readme_is_that_of_the_registry():
    rows = [f"| `{form.name}` | {form.summary} |\n" for form in FORMATS.values()]
    assert "".join(rows) in (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_preview_counts_what_the_export_then_does(tmp_path, store):
    words = ["export", str(store.root), "--where", 'model_0 = "alpha"', "--flip", "votes > 0"]
    runner = CliRunner()
    shown = runner.invoke(registered(), [*words, "--preview"])
    assert shown.exit_code == 0, shown.output
    done = runner.invoke(
        registered(), [*words, "--out", str(tmp_path / "out"), "--format", "webdataset"]
    )
    assert done.output.startswith(shown.output)


def test_chosen_and_rejected_come_back_as_the_same_pairs_and_labels(tmp_path, store):
    export(store, tmp_path / "out", "chosen-rejected", Policy(verdicts=False))
    again = create_store(tmp_path / "again")
    ingest(again, "chosen-rejected", [tmp_path / "out" / "data"])
    before = {
        (p["prompt"], p["image_0"], p["image_1"], p["label"])
        for p in rows(store, "pairs")
        if p["label"] != 0.5
    }
    after = {(p["prompt"], p["image_0"], p["image_1"], p["label"]) for p in rows(again, "pairs")}
    assert after == before
    reader = ImageReader(again)
    assert all(reader.read(uid) == picture(uid) for _, uid, _, _ in after)


def test_winners_and_losers_come_back_through_their_folders(tmp_path, store):
    export(store, tmp_path / "out", "kohya")
    again = create_store(tmp_path / "again")
    summary = ingest(again, "folders", tmp_path / "out" / "w", tmp_path / "out" / "l")
    assert summary.kept == len(expected())
    reader = ImageReader(again)
    found = {
        (p["prompt"], reader.read(p["image_0"]), reader.read(p["image_1"]))
        for p in rows(again, "pairs")
    }
    assert found == set(expected().values())


def test_weights_of_a_source_survive_and_are_multiplied(tmp_path):
    schema = _schema().append(pa.field("sample_weight", pa.float64()))
    made = [source_row(k) | {"sample_weight": (0.5, None)[k % 2], "nsfw": False} for k in range(6)]
    path = write_source(tmp_path / "train.parquet", made, schema=schema)
    store = create_store(tmp_path / "s")
    ingest(store, "pickapic", [path])
    export(store, tmp_path / "out", "pickapic", Policy(keep_ties=True))
    assert pq.read_table(tmp_path / "out" / "data")["sample_weight"].to_pylist() == [0.5, 1.0] * 3


def test_every_images_suffix_follows_from_its_bytes(tmp_path):
    from toolkit.image_files import suffix_of

    kinds = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}
    kinds |= {"TIFF": ".tif", "AVIF": ".avif"}
    for kind, suffix in kinds.items():
        out = io.BytesIO()
        Image.new("RGB", (4, 4)).save(out, kind)
        assert suffix_of(out.getvalue()) == suffix
    assert suffix_of(b"whatever") == ".jpg"
    assert tmp_path.exists()


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_weight_becomes_a_draw_that_depends_on_seed_and_pair_alone(tmp_path, store, name):
    """Kept with probability weight / largest weight: over many seeds, the share is the weight."""
    policy = Policy(run="r", weight="noise.probability", resample=True, verdicts=False)
    export(store, tmp_path / "out", name, policy)
    record = json.loads((tmp_path / "out" / "curation.json").read_text())
    why = "dropped: not drawn by its weight, --resample (policy)"
    assert record["counts"]["reasons"][why] > 0
    assert record["counts"]["reweighted"] == 0
    assert "kept with probability weight" in (tmp_path / "out" / "README.md").read_text()


def test_pairs_are_drawn_as_often_as_their_weights_say(store):
    def plan(**options):
        fixed = {"run": "r", "weight": "noise.probability", "keep_ties": True, "verdicts": False}
        return make_plan(store, Policy(**fixed, **options))

    plans = [plan(resample=True, seed=seed) for seed in range(60)]
    share = np.mean([drawn.kept for drawn in plans], axis=0)
    expected = plan().weight / plan().weight.max()
    assert np.abs(share - expected).max() < 4 * np.sqrt(0.25 / len(plans))
    assert np.corrcoef(share, expected)[0, 1] > 0.9
    assert all((drawn.weight[drawn.kept] == 1).all() for drawn in plans)
    inside = [k for k in range(ROWS) if k % 4]
    subset = plan(resample=True, where="not nsfw")
    assert plans[0].kept[inside].tolist() == subset.kept[inside].tolist()


def test_bytes_of_another_file_do_not_leave_by_a_link_or_under_an_images_name(tmp_path):
    """A source by reference is read again at export, when its files may be others."""
    for side in "wl":
        (tmp_path / side).mkdir()
        for k in range(3):
            (tmp_path / side / f"{k}.png").write_bytes(picture(f"{side}{k}"))
            (tmp_path / side / f"{k}.txt").write_text(f"prompt {k}")
    store = create_store(tmp_path / "s")
    ingest(store, "folders", tmp_path / "w", tmp_path / "l", images="reference")
    secret = tmp_path / "private" / "photo.png"
    secret.parent.mkdir()
    secret.write_bytes(picture("private"))
    file = tmp_path / "w" / "1.png"
    file.unlink()
    file.symlink_to(secret)
    with pytest.raises(InputError, match=r"w/1.png is a link to .*private/photo.png now.*--allow"):
        export(store, tmp_path / "out", "kohya")
    assert not (tmp_path / "out").exists()
    export(store, tmp_path / "allowed", "kohya", Policy(allow_outside=True))
    file.unlink()
    file.write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    with pytest.raises(InputError, match=r"left nothing: image .* is no image any more\."):
        export(store, tmp_path / "out", "kohya")
    assert not (tmp_path / "out").exists()


KILLED = """
import os, signal, sys
from toolkit.export import export_set
from toolkit.progress import SILENT
from toolkit.store import open_store

class Kill:
    def line(self, text): ...
    def update(self, task, done, total=None, note=""):
        os.kill(os.getpid(), signal.SIGKILL)

export_set(open_store(sys.argv[1]), sys.argv[2], form="webdataset", progress=Kill())
"""


def test_what_a_killed_export_leaves_is_removed_and_named_by_the_next(tmp_path, store):
    killed = [sys.executable, "-c", KILLED, str(store.root), str(tmp_path / "out")]
    assert subprocess.run(killed, check=False).returncode == -signal.SIGKILL
    [left] = tmp_path.glob(".out.*.unfinished")
    assert (left / "data").is_dir()
    assert not (tmp_path / "out").exists()
    running = unfinished_name(tmp_path / "other")  # as this process would name its own
    running.mkdir()
    outcome = export(store, tmp_path / "second", "weights")
    assert outcome.lines()[-1] == f"Removed what killed exports had left: {left.name}."
    assert not left.exists()
    assert running.exists()


def test_a_name_too_long_for_the_disk_is_a_sentence(tmp_path, store):
    with pytest.raises(InputError, match=r"File name too long.*another folder with --out"):
        export(store, tmp_path / ("x" * 300), "weights")
    assert not list(tmp_path.glob(".x*"))
    with pytest.raises(InputError, match=r"--shard-rows is 0; it must be from 1 to"):
        export(store, tmp_path / "out", "pickapic", shard_rows=0)
