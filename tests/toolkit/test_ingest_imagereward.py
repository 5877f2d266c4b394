"""Rankings and rows of images give the same pairs, ties kept, ranks beside them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import png
from tests.toolkit.stores import rows, write_image
from toolkit.errors import InputError
from toolkit.ingest import ingest, open_source
from toolkit.store import create_store
from toolkit.store.images import ImageReader

RANKS = (2, 1, 2, 3)


def rankings(folder: Path) -> Path:
    for n in range(4):
        write_image(folder / f"{n}.png", (n * 60, 0, 0))
    entry = {
        "id": "x-1",
        "prompt": "a tower",
        "generations": [f"{n}.png" for n in range(4)],
        "ranking": list(RANKS),
    }
    path = folder / "train.json"
    path.write_text(json.dumps([entry]))
    return path


def images(folder: Path) -> Path:
    """One row an image, those of two prompts in turn, bytes in the rows."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = [
        {
            "image": {"bytes": png((n * 60, 200 * (prompt == "b"), 0)), "path": None},
            "prompt_id": prompt,
            "prompt": f"prompt {prompt}",
            "classification": "People",
            "image_amount_in_total": 4,
            "rank": RANKS[n],
            "overall_rating": 7 - n,
        }
        for n in range(4)
        for prompt in "ab"
    ]
    schema = pa.Table.from_pylist(made).schema.set(0, pa.field("image", kind))
    path = folder / "validation-0.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(made, schema=schema), path, row_group_size=3)
    return path


def labels(pairs: list[dict]) -> list[tuple[int, int, float]]:
    return [(p["src_rank_0"], p["src_rank_1"], p["label"]) for p in pairs]


EXPECTED = [(2, 1, 0.0), (2, 2, 0.5), (2, 3, 1.0), (1, 2, 1.0), (1, 3, 1.0), (2, 3, 1.0)]


def test_a_ranking_gives_every_two_images_the_smaller_rank_preferred(tmp_path):
    store = create_store(tmp_path / "s")
    summary = ingest(store, "imagereward", [rankings(tmp_path)])
    assert (summary.kept, summary.tied) == (6, 1)
    pairs = rows(store, "pairs")
    assert labels(pairs) == EXPECTED
    assert {p["src_prompt_id"] for p in pairs} == {"x-1"}
    assert ImageReader(store).read("2.png") == (tmp_path / "2.png").read_bytes()


@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_rows_of_images_are_gathered_by_prompt(tmp_path, mode):
    path = images(tmp_path / "d")
    store = create_store(tmp_path / "s")
    summary = ingest(store, "imagereward", [path], images=mode)
    pairs = rows(store, "pairs")
    assert (summary.kept, summary.images) == (12, 8)
    for prompt in "ab":
        assert labels([p for p in pairs if p["prompt"] == f"prompt {prompt}"]) == EXPECTED
    first = pairs[0]
    assert (first["src_overall_rating_0"], first["src_overall_rating_1"]) == (7, 6)
    assert (first["src_classification"], first["split"]) == ("People", "validation")
    held = {row["image_id"]: row["bytes"] for row in rows(store, "images")}
    assert all((data is None) == (mode == "reference") for data in held.values())
    assert ImageReader(store).read(first["image_1"]) == png((60, 0, 0))


def test_a_table_of_neither_form_is_refused_with_what_both_need(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('[{"prompt": "p", "rank": 1}]')
    with pytest.raises(InputError, match=r"rankings need prompt, generations, ranking, groups"):
        open_source("imagereward", [path])


def test_limit_counts_rankings(tmp_path):
    store = create_store(tmp_path / "s")
    assert ingest(store, "imagereward", [images(tmp_path / "d")], limit=1).kept == 6
