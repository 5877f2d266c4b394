"""A table of scores becomes pairs whose labels say that no person gave them."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from app.cli.ingest import app
from tests.factories import png
from toolkit.errors import InputError
from toolkit.ingest import Summary, open_source
from toolkit.progress import SILENT
from toolkit.store import Store, connect, open_or_create
from toolkit.store.connection import fetch

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "agiqa3k"
SCORES = {"a": 1.0, "b": 1.3, "c": 2.0, "d": 2.0}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    with (tmp_path / "scores.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["name", "prompt", "style", "mos_align", "std_align"])
        for k in range(12):
            for n, (name, score) in enumerate(SCORES.items()):
                file = f"m{n}_{k:02d}{name}.png"
                (images / file).write_bytes(png((k * 20, n * 60, 7)))
                rows.writerow([file, f'a "quoted", prompt {k}', "plain", score, 0.1 * n])
    return tmp_path / "scores.csv"


def given(table: str, images_dir: str, **options) -> dict:
    return {"table": table, "images_dir": images_dir} | options


def take_in(store: Path, ratings: dict, **options) -> tuple[Store, Summary]:
    source = open_source("ratings", **ratings, **options)
    opened = open_or_create(store)
    return opened, source.add(opened, SILENT)


def pairs_of(store: Store) -> list[dict]:
    with connect(store) as con:
        return fetch(con, "SELECT * FROM pairs").to_pylist()


def test_pairs_are_made_where_the_gap_passes_and_nowhere_else(tmp_path, table):
    store, summary = take_in(tmp_path / "s", given(str(table), str(tmp_path / "images")))
    # of a, b, c, d: a-c, a-d, b-c, b-d differ by .5 or more; a-b by .3, c-d by nothing
    assert summary.kept == 12 * 4
    for pair in pairs_of(store):
        gap = pair["src_score_0"] - pair["src_score_1"]
        assert abs(gap) >= 0.5
        assert pair["label"] == float(gap > 0)
        assert pair["source"] == "mos"
        assert pair["src_score_column"] == "mos_align"


def test_a_limit_takes_the_first_pairs_and_the_next_try_adds_the_rest(tmp_path, table):
    ratings = given(str(table), str(tmp_path / "images"))
    store, summary = take_in(tmp_path / "s", ratings, limit=5)
    assert (summary.read, summary.kept, len(pairs_of(store))) == (5, 5, 5)
    store, summary = take_in(tmp_path / "s", ratings)
    assert (summary.kept, summary.duplicate, len(pairs_of(store))) == (43, 5, 48)


def test_a_gap_of_nothing_makes_a_tie_when_it_is_let_through(tmp_path, table):
    _, summary = take_in(tmp_path / "s", given(str(table), str(tmp_path / "images"), min_gap=0))
    assert (summary.kept, summary.tied) == (12 * 6, 12)


def test_position_says_nothing_about_the_label(tmp_path, table):
    store, _ = take_in(tmp_path / "s", given(str(table), str(tmp_path / "images")))
    labels = [pair["label"] for pair in pairs_of(store)]
    assert 0.25 < sum(labels) / len(labels) < 0.75


def test_two_score_columns_order_the_images_alike_and_name_different_pairs(tmp_path, table):
    folder = str(tmp_path / "images")
    store, _ = take_in(tmp_path / "s", given(str(table), folder, min_gap=0))
    other = given(str(table), folder, score_column="std_align", min_gap=0)
    _, second = take_in(tmp_path / "s", other)
    assert (second.duplicate, second.images) == (0, 0)
    by_comparison: dict[str, list[dict]] = {}
    for pair in pairs_of(store):
        by_comparison.setdefault(pair["comparison_id"], []).append(pair)
    for one, two in by_comparison.values():
        assert one["pair_id"] != two["pair_id"]
        assert (one["image_0"], one["image_1"]) == (two["image_0"], two["image_1"])


def test_scores_spreads_models_and_other_columns_stay_beside_the_pair(tmp_path, table):
    ratings = given(
        str(table), str(tmp_path / "images"), sd_column="std_align", model_pattern="^([^_]+)_"
    )
    store, _ = take_in(tmp_path / "s", ratings)
    pair = pairs_of(store)[0]
    assert {"src_sd_0", "src_sd_1", "src_style_0", "src_style_1"} < set(pair)
    assert pair["src_model_0"] == pair["image_0"].split("_")[0]


def test_ratings_are_no_votes(tmp_path, table):
    store, _ = take_in(tmp_path / "s", given(str(table), str(tmp_path / "images")))
    with connect(store) as con:
        assert fetch(con, "SELECT count(*) AS n FROM votes").to_pylist() == [{"n": 0}]


def test_ingesting_a_table_again_adds_nothing(tmp_path, table):
    ratings = given(str(table), str(tmp_path / "images"))
    take_in(tmp_path / "s", ratings)
    _, again = take_in(tmp_path / "s", ratings)
    assert (again.kept, again.duplicate, again.images) == (0, 48, 0)


def test_a_missing_and_a_broken_file_quarantine_their_pairs_only(tmp_path, table):
    (tmp_path / "images" / "m0_00a.png").unlink()
    (tmp_path / "images" / "m2_01c.png").write_bytes(b"")
    _, summary = take_in(tmp_path / "s", given(str(table), str(tmp_path / "images")))
    assert (summary.kept, summary.quarantined) == (44, 4)
    reasons = {reason.split(": ")[1] for reason in summary.reasons}
    assert reasons == {"the image file cannot be read", "the image has no bytes"}


def test_references_leave_the_files_where_they_lie(tmp_path, table):
    ratings = given(str(table), str(tmp_path / "images"))
    store, _ = take_in(tmp_path / "s", ratings, images="reference")
    with connect(store) as con:
        [row] = fetch(con, "SELECT * FROM images ORDER BY image_id LIMIT 1").to_pylist()
    assert row["ref_file"] == str(tmp_path / "images" / row["image_id"])
    assert (row["bytes"], row["content_hash"], row["ref_row"]) == (None, None, None)


def test_rows_without_a_score_are_left_out_and_said(tmp_path, table):
    with table.open("a", newline="") as stream:
        csv.writer(stream).writerow(["m9_x.png", "some prompt", "", "", ""])
    _, summary = take_in(tmp_path / "s", given(str(table), str(tmp_path / "images")))
    assert summary.notes == ["left out 1 images without a name, a prompt or a finite score"]


def test_a_parquet_table_is_read_like_a_csv_one(tmp_path, table):
    from pyarrow import csv as arrow_csv

    pq.write_table(arrow_csv.read_csv(table), tmp_path / "scores.parquet")
    images = str(tmp_path / "images")
    _, summary = take_in(tmp_path / "s", given(str(tmp_path / "scores.parquet"), images))
    assert summary.kept == 48


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"table": "nowhere.csv"},
            "does not exist; name a Parquet, Arrow, JSON, CSV or",
        ),
        ({"images_dir": "nowhere"}, "is no folder; name the images' with --images-dir"),
        ({"score_column": "beauty"}, "lacks the column beauty (found: name, prompt, style,"),
        ({"score_column": "prompt"}, "where a number is needed; name another --score-column"),
        ({"min_gap": -1.0}, "it must be from 0 to 1e+09"),
        ({"min_gap": float("nan")}, "it must be from 0 to 1e+09"),
        ({"as_votes": True}, "name the column of who gave a score with --rater-column"),
        ({"aggregate": "count"}, "name the column of who gave a score with --rater-column"),
        ({"split": "training"}, "it must be train, validation or test"),
    ],
)
def test_bad_options_are_one_sentence(tmp_path, table, change, sentence):
    options = given(str(table), str(tmp_path / "images")) | change
    with pytest.raises(InputError) as caught:
        open_source("ratings", **options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2,3\n", b"\xff\xfe\x00\x01", b"PAR1 nonsense"])
def test_a_table_that_is_none_is_one_sentence_and_makes_no_store(tmp_path, content):
    for name in ("t.csv", "t.parquet"):
        (tmp_path / name).write_bytes(content)
        arguments = ["ratings", str(tmp_path / name), "--images-dir", str(tmp_path)]
        result = CliRunner().invoke(app, [*arguments, "--store", str(tmp_path / "s")])
        assert isinstance(result.exception, InputError), result.exception
        assert "\n" not in str(result.exception)
        assert not (tmp_path / "s").exists()


def test_columns_with_nothing_in_them_do_no_harm(tmp_path, table):
    read = pq.ParquetFile  # a Parquet table may hold a column of the null type
    rows = [
        {"name": "m0_00a.png", "prompt": "p", "mos_align": 1, "empty": None},
        {"name": "m1_00b.png", "prompt": "p", "mos_align": 3, "empty": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "n.parquet")
    assert read(tmp_path / "n.parquet").metadata.num_rows == 2
    ratings = given(str(tmp_path / "n.parquet"), str(table.parent / "images"))
    _, summary = take_in(tmp_path / "s", ratings)
    assert summary.kept == 1


RATERS = [  # image, rater, score
    *(("a", "007", 1), ("a", "8", 2), ("a", "9", 6), ("a", None, 3)),
    *(("b", "007", 4), ("b", "8", 4), ("b", "9", 4), ("b", "10", 4)),
]


@pytest.fixture
def by_raters(tmp_path: Path) -> dict:
    """Image a: mean 3, median 2.5; image b: 4 by everybody."""
    images = tmp_path / "images"
    images.mkdir()
    for name in "ab":
        (images / f"{name}.png").write_bytes(png((9, 9, ord(name))))
    rows = [
        {"name": f"{image}.png", "prompt": "p", "mos_align": score, "who": who, "style": "plain"}
        for image, who, score in RATERS
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    return given(str(tmp_path / "r.parquet"), str(images))


@pytest.mark.parametrize(("aggregate", "score"), [("mean", 3.0), ("median", 2.5)])
def test_one_row_a_rater_is_one_image_with_the_score_of_them_all(
    tmp_path, by_raters, aggregate, score
):
    store, summary = take_in(tmp_path / "s", by_raters, aggregate=aggregate)
    assert (summary.read, summary.kept) == (1, 1)
    [pair] = pairs_of(store)
    slot = 0 if pair["image_0"] == "a.png" else 1
    assert (pair[f"src_score_{slot}"], pair[f"src_ratings_{slot}"]) == (score, 4)
    assert (pair["label"], pair["label_weight"], pair["src_style_0"]) == (slot, 4.0, "plain")
    assert "src_who_0" not in pair


def test_raters_of_both_images_are_votes_and_their_share_a_label(tmp_path, by_raters):
    options = {"rater_column": "who", "as_votes": True, "aggregate": "count"}
    for _ in range(2):
        store, summary = take_in(tmp_path / "s", by_raters, **options)
    assert (summary.kept, summary.duplicate) == (0, 1)
    [pair] = pairs_of(store)
    first = pair["image_0"] == "a.png"
    assert pair["label"] == pytest.approx(1 / 3 if first else 2 / 3)
    assert pair["label_weight"] == 3.0
    with connect(store) as con:
        votes = fetch(con, "SELECT annotator, choice, grade FROM votes ORDER BY 1").to_pylist()
    assert [vote["annotator"] for vote in votes] == ["007", "8", "9"]
    assert [vote["choice"] for vote in votes] == [1 - first, 1 - first, first]
    assert votes[0]["grade"] == ("1 and 4" if first else "4 and 1")


@pytest.mark.skipif(not REAL.exists(), reason="the real AGIQA-3K is not on this machine")
def test_agiqa3k_comes_in_whole(tmp_path):
    arguments = [
        "ratings",
        str(REAL / "ratings.csv"),
        *("--images-dir", str(REAL / "images"), "--store", str(tmp_path / "s")),
        *("--sd-column", "std_align", "--images", "reference"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "quarantined 0; new images 2,014" in result.output
    pairs = pairs_of(open_or_create(tmp_path / "s"))
    assert len({pair["prompt"] for pair in pairs}) == 203
    assert all(abs(pair["src_score_0"] - pair["src_score_1"]) >= 0.5 for pair in pairs)
    assert 0.45 < sum(pair["label"] for pair in pairs) / len(pairs) < 0.55
