"""Every way in against every way out: the same pairs, labels and weights (hypothesis)."""

import json
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.toolkit.test_roundtrips import PAIRS, Pair, as_pickapic, images
from toolkit.export import FORMATS, Policy, export_set
from toolkit.ingest import SOURCES, ingest
from toolkit.store import Store, create_store
from toolkit.store.connection import read_pairs
from toolkit.store.images import ImageReader
from toolkit.store.pseudonyms import with_exported_names

Known = set[tuple[str, bytes, bytes, str, float]]
"""(prompt, preferred image, other image, "prefers", weight); of a tie or an open pair the images
stand in their own order, since no side is preferred."""


@dataclass(frozen=True)
class WayIn:
    """Makes a source of the pairs and takes it in; `labels` are those that it can state."""

    take: Callable[[Store, Path, list[Pair]], object]
    labels: tuple[float | None, ...]
    weights: bool = False


def known(prompt: str, one: bytes, two: bytes, label: float | None, weight: float) -> tuple:
    if label in (0.0, 1.0):
        return (prompt, *((one, two) if label == 1 else (two, one)), "prefers", weight)
    return (prompt, *sorted((one, two)), "tie" if label == 0.5 else "open", weight)


def files(folder: Path, pairs: list[Pair]) -> list[tuple[str, str]]:
    """The pairs' images as files below `folder`; their names."""
    names = []
    for pair in pairs:
        sides = (f"a{pair.colours[0]}.png", f"b{pair.colours[1]}.png")
        for name, data in zip(sides, images(pair), strict=True):
            (folder / name).write_bytes(data)
        names.append(sides)
    return names


def listed(folder: Path, entries: list[dict]) -> list[Path]:
    path = folder / "train.json"
    path.write_text(json.dumps(entries))
    return [path]


def from_pickapic(store: Store, work: Path, pairs: list[Pair]) -> None:
    path = as_pickapic(work / "train.parquet", pairs)
    ingest(store, "pickapic", [path])


def from_table(kind: str) -> Callable[[Store, Path, list[Pair]], None]:
    def take(store: Store, work: Path, pairs: list[Pair]) -> None:
        made = [
            {
                "prompt": pair.prompt,
                "chosen": sides[0] if pair.label != 0 else sides[1],
                "rejected": sides[1] if pair.label != 0 else sides[0],
                "label_0": pair.label,
                "sample_weight": pair.weight,
            }
            for pair, sides in zip(pairs, files(work, pairs), strict=True)
        ]
        path = work / f"train.{kind}"
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(made), path)
        elif kind == "csv":
            csv.write_csv(pa.Table.from_pylist(made), path)
        else:
            path.write_text("\n".join(map(json.dumps, made)))
        ingest(store, "chosen-rejected", [path])

    return take


def from_hpd_train(store: Store, work: Path, pairs: list[Pair]) -> None:
    entries = [
        {
            "prompt": pair.prompt,
            "file_path": list(sides),
            "human_preference": [pair.label, 1 - pair.label],
        }
        for pair, sides in zip(pairs, files(work, pairs), strict=True)
    ]
    ingest(store, "hpd", listed(work, entries))


def from_hpd_v3(store: Store, work: Path, pairs: list[Pair]) -> None:
    entries = [
        {"prompt": pair.prompt, "path1": sides[int(pair.label == 0)]}
        | {"path2": sides[int(pair.label == 1)]}
        for pair, sides in zip(pairs, files(work, pairs), strict=True)
    ]
    ingest(store, "hpd", listed(work, entries))


def from_rankings(store: Store, work: Path, pairs: list[Pair]) -> None:
    ranks = {1.0: [1, 2], 0.0: [2, 1], 0.5: [1, 1]}
    entries = [
        {"id": str(k), "prompt": pair.prompt, "generations": list(sides)}
        | {"ranking": ranks[pair.label]}
        for k, (pair, sides) in enumerate(zip(pairs, files(work, pairs), strict=True))
    ]
    ingest(store, "imagereward", listed(work, entries))


def from_answers(store: Store, work: Path, pairs: list[Pair]) -> None:
    said = {1.0: ["image_1"], 0.0: ["image_2"], 0.5: ["both_good"], None: []}
    entries = [
        {"prompt": pair.prompt, "image_1": one, "image_2": two, "preference": said[pair.label]}
        for pair, (one, two) in zip(pairs, files(work, pairs), strict=True)
    ]
    ingest(store, "image-preferences", listed(work, entries))


def from_folders(store: Store, work: Path, pairs: list[Pair]) -> None:
    for folder in ("w", "l"):
        (work / folder).mkdir()
    for k, pair in enumerate(pairs):
        one, two = images(pair)
        (work / "w" / f"{k}.png").write_bytes(one if pair.label == 1 else two)
        (work / "l" / f"{k}.png").write_bytes(two if pair.label == 1 else one)
        (work / "w" / f"{k}.txt").write_bytes(pair.prompt.encode())
    ingest(store, "folders", work / "w", work / "l")


def from_ratings(store: Store, work: Path, pairs: list[Pair]) -> None:
    """A prompt of its own for every pair: scores make a pair of every two images of one prompt."""
    made = []
    for k, pair in enumerate(pairs):
        for slot, data in enumerate(images(pair)):
            (work / f"{k}-{slot}.png").write_bytes(data)
            score = pair.label if slot == 0 else 1 - pair.label
            made.append({"name": f"{k}-{slot}.png", "prompt": pair.prompt, "mos_align": score})
    pq.write_table(pa.Table.from_pylist(made), work / "scores.parquet")
    ingest(store, "ratings", work / "scores.parquet", images_dir=work, min_gap=0.0)


def from_pairwise(store: Store, work: Path, pairs: list[Pair]) -> None:
    made = [
        {"prompt": pair.prompt, "image_0": one, "image_1": two, "share": pair.label}
        for pair, (one, two) in zip(pairs, files(work, pairs), strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(made), work / "train.parquet")
    ingest(store, "pairwise", [work / "train.parquet"], share_column="share")


EVERY, DECIDED = (1.0, 0.0, 0.5, None), (1.0, 0.0)
WAYS_IN = {
    "pickapic": WayIn(from_pickapic, EVERY, weights=True),
    "chosen-rejected Parquet": WayIn(from_table("parquet"), EVERY, weights=True),
    "chosen-rejected JSON": WayIn(from_table("json"), EVERY, weights=True),
    "chosen-rejected CSV": WayIn(from_table("csv"), EVERY, weights=True),
    "hpd v2": WayIn(from_hpd_train, (1.0, 0.0, 0.5)),
    "hpd v3": WayIn(from_hpd_v3, DECIDED),
    "imagereward": WayIn(from_rankings, (1.0, 0.0, 0.5)),
    "image-preferences": WayIn(from_answers, EVERY),
    "folders": WayIn(from_folders, DECIDED),
    "ratings": WayIn(from_ratings, (1.0, 0.0, 0.5)),
    "pairwise": WayIn(from_pairwise, (1.0, 0.0, 0.5)),
}
BY_THEIR_CARDS = {"rapidata", "relational", "wide", "webdataset"}
"""Their labels are compared with their files in test_data_cards_sources.py."""


def tables(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]


def out_pickapic(_: Store, out: Path) -> Known:
    return {
        known(
            row["caption"],
            row["jpg_0"],
            row["jpg_1"],
            row["label_0"] if row["has_label"] else None,
            row["sample_weight"],
        )
        for row in tables(out / "data")
    }


def out_chosen_rejected(_: Store, out: Path) -> Known:
    return {
        known(row["prompt"], row["chosen"]["bytes"], row["rejected"]["bytes"], 1.0, weight)
        for row in tables(out / "data")
        if (weight := row["sample_weight"]) is not None
    }


def out_webdataset(_: Store, out: Path) -> Known:
    found: Known = set()
    for path in (out / "data").iterdir():
        with tarfile.open(path) as tar:
            held = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
        for key in {name.split(".")[0] for name in held}:
            row = json.loads(held[f"{key}.json"])
            sides = [
                next(data for name, data in held.items() if name.startswith(f"{key}.{slot}."))
                for slot in (0, 1)
            ]
            found.add(known(row["caption"], *sides, row["label_0"], row["sample_weight"]))
    return found


def out_offline_pairs(_: Store, out: Path) -> Known:
    return {
        known(
            row["prompt"],
            *((out / "data" / row[side]).read_bytes() for side in ("img_win", "img_lose")),
            1.0,
            row["sample_weight"],
        )
        for path in (out / "data").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    }


def out_weights(store: Store, out: Path) -> Known:
    """The sidecar joined to the store by pair_id, as its reader joins it to his own copy."""
    reader = ImageReader(store)
    columns = ["pair_id", "prompt", "image_0", "image_1"]
    table = with_exported_names(store, read_pairs(store, columns))
    pairs = {row["pair_id"]: row for row in table.to_pylist()}
    found: Known = set()
    for row in pq.read_table(out / "weights.parquet").to_pylist():
        pair = pairs[row["pair_id"]]
        sides = [reader.read(pair[name]) for name in ("image_0", "image_1")]
        if row["kept"]:
            found.add(known(pair["prompt"], *sides, row["label_0"], row["sample_weight"]))
    return found


def out_kohya(_: Store, out: Path) -> Known:
    found: Known = set()
    for line in (out / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        sides = [(out / row[side]).read_bytes() for side in ("w", "l")]
        caption = (out / row["w"]).with_suffix(".txt").read_bytes().decode()
        found.add(known(caption, *sides, 1.0, row["sample_weight"]))
    return found


WAYS_OUT = {
    "pickapic": out_pickapic,
    "chosen-rejected": out_chosen_rejected,
    "webdataset": out_webdataset,
    "offline-pairs": out_offline_pairs,
    "weights": out_weights,
    "kohya": out_kohya,
}


def test_no_format_is_left_out_of_this_test():
    assert set(WAYS_OUT) == set(FORMATS)
    assert {name.split()[0] for name in WAYS_IN} | BY_THEIR_CARDS == {
        s.name for s in SOURCES.values() if s.makes_store
    }


@pytest.mark.parametrize("way", WAYS_IN)
@settings(
    max_examples=3,
    phases=[Phase.generate],
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(made=PAIRS)
def test_what_comes_in_one_way_goes_out_every_way(way, made):
    taken = WAYS_IN[way]
    by_prompt = {pair.prompt: pair for pair in made} if way == "ratings" else {}
    pairs = [pair for pair in by_prompt.values() or made if pair.label in taken.labels]
    expected = {
        known(p.prompt, *images(p), p.label, p.weight if taken.weights else 1.0) for p in pairs
    }
    decided = {pair for pair in expected if pair[3] == "prefers"}
    if not decided:  # an export of nothing is refused, and has a test of its own
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        store = create_store(work / "store")
        taken.take(store, work, pairs)
        for form, read in WAYS_OUT.items():
            undecided = FORMATS[form].undecided
            policy = Policy(keep_ties=undecided, keep_unlabelled=undecided)
            export_set(store, work / form, policy, FORMATS[form])
            assert read(store, work / form) == (expected if undecided else decided), form
