"""The page of an evaluation: everything in it, prompts as text, scores under their images."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from analysis.model_comparison import compare, grid, write_sheet
from tests.factories import png
from toolkit.errors import InputError

HEADINGS = {"image_reward": "IR", "pickscore": "PS"}


def scores(without: tuple[str, int] | None = None) -> pa.Table:
    """pickscore and image_reward of a and b on prompts 0 and 1: known numbers."""
    rows = [
        {"model": m, "prompt_index": p, "seed": 0, "figure": figure, "value": base + p + 0.5 * k}
        for figure, base in (("pickscore", 20.0), ("image_reward", -1.0))
        for k, m in enumerate("ab")
        for p in range(2)
        if (figure, p) != without
    ]
    return pa.Table.from_pylist(rows)


def samples(side: int = 16) -> pa.Table:
    rows = [
        {"model": m, "prompt_index": p, "prompt": f"<b>{p} & more", "seed": 0, "png": picture}
        for m in "ba"
        for p in (1, 0)
        for picture in [png((100 * p, 0, 0), side)]
    ]
    return pa.Table.from_pylist(rows)


def written(path: Path, table: pa.Table, rows: int = 24, side: int = 16) -> str:
    names = ["a", "b"]
    comparison = compare(table, names)
    page = write_sheet(
        path,
        samples(side),
        table,
        comparison,
        names,
        about="DDIM.",
        headings=HEADINGS,
        rows=rows,
    )
    return page.read_text()


def test_the_page_holds_everything_itself_and_escapes_prompts(tmp_path: Path) -> None:
    page = written(tmp_path / "s.html", scores(), rows=1)
    assert page.count("data:image/png;base64,") == 2  # one prompt, two models
    assert "&lt;b&gt;0 &amp; more" in page
    assert "<b>" not in page
    assert not re.search(r"https?:|<script|<link|url\(", page)
    with pytest.raises(InputError, match="could not be written"):
        written(Path("/proc/x/s.html"), scores())


def test_models_stand_against_scorers_in_the_papers_order(tmp_path: Path) -> None:
    page = re.sub(r"<[^>]+>", " ", written(tmp_path / "s.html", scores()))
    table = " ".join(page.partition("Models")[2].partition("Scores")[0].split())
    assert "model IR PS" in table
    assert "a -0.500 (50 %) 20.500 (50 %)" in table
    assert "b 0.000 (100 %) 21.000 (100 %)" in table


def test_a_row_is_a_prompt_and_seed_with_every_models_image_and_scores() -> None:
    first, second = grid(samples(), scores(), ["a", "b"], HEADINGS, 24)
    assert (first["prompt"], first["seed"]) == ("<b>0 & more", 0)
    assert [cell["scores"] for cell in second["cells"]] == [
        [("IR", 0.0), ("PS", 21.0)],
        [("IR", 0.5), ("PS", 21.5)],
    ]
    assert first["cells"][0]["image"] != second["cells"][0]["image"]
    (alone,) = grid(samples(), scores(("pickscore", 0)), ["a", "c"], HEADINGS, 1)
    assert alone["cells"][0]["scores"] == [("IR", -1.0)]
    assert alone["cells"][1] is None


def test_large_images_come_as_small_jpegs(tmp_path: Path) -> None:
    page = written(tmp_path / "s.html", scores(), side=600)
    assert page.count("data:image/jpeg;base64,") == 4
    assert "data:image/png" not in page
