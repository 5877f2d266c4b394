"""Two folders of equally named images become pairs whose first image is preferred."""

from pathlib import Path

import pytest

from tests.toolkit.stores import rows, write_image
from toolkit.errors import InputError
from toolkit.ingest import ingest, open_source
from toolkit.store import create_store
from toolkit.store.images import ImageReader


def folders(folder: Path) -> tuple[Path, Path]:
    for name, red in (("one", 10), ("two", 20), ("alone", 30)):
        write_image(folder / "w" / f"{name}.png", (red, 0, 0))
        (folder / "w" / f"{name}.txt").write_text(f"caption {name}\n")
    write_image(folder / "l" / "one.jpg", (0, 0, 10))  # another suffix, the same name
    write_image(folder / "l" / "two.png", (0, 0, 20))
    return folder / "w", folder / "l"


@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_equal_names_are_pairs_and_the_lonely_are_counted(tmp_path, mode):
    chosen, rejected = folders(tmp_path)
    store = create_store(tmp_path / "s")
    summary = ingest(store, "folders", chosen, rejected, images=mode)
    assert summary.kept == 2
    assert summary.notes == ["left out 1 images without a partner of their name"]
    found = {pair["prompt"]: pair for pair in rows(store, "pairs")}
    assert set(found) == {"caption one", "caption two"}
    assert {pair["label"] for pair in found.values()} == {1.0}
    reader = ImageReader(store)
    pair = found["caption one"]
    assert reader.read(pair["image_0"]) == (chosen / "one.png").read_bytes()
    assert reader.read(pair["image_1"]) == (rejected / "one.jpg").read_bytes()


def test_captions_may_lie_in_a_folder_of_their_own_and_none_is_a_fault(tmp_path):
    chosen, rejected = folders(tmp_path)
    captions = tmp_path / "c"
    captions.mkdir()
    (captions / "two.caption").write_text("mine")
    store = create_store(tmp_path / "s")
    summary = ingest(store, "folders", chosen, rejected, captions=captions)
    assert [pair["prompt"] for pair in rows(store, "pairs")] == ["mine"]
    assert dict(summary.reasons) == {"the image has no caption": 1}


def test_folders_without_a_common_name_are_refused(tmp_path):
    chosen, _ = folders(tmp_path)
    write_image(tmp_path / "x" / "other.png", (1, 1, 1))
    with pytest.raises(InputError, match=r"\(3 and 1 images\); give partners equal names"):
        open_source("folders", chosen, tmp_path / "x")
    with pytest.raises(InputError, match="is no folder"):
        open_source("folders", chosen, tmp_path / "nowhere")
