"""Whatever strangers send: taken in whole, or set aside with a reason, and never a traceback."""

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.cli.main import main
from tests.factories import png
from tests.toolkit.pickapic_source import source_row, write_source
from tests.toolkit.stores import rows
from toolkit.errors import InputError, StoreError
from toolkit.export import FORMATS, Policy, export_set
from toolkit.files.atomic import parts
from toolkit.ingest import ingest
from toolkit.store import Store, create_store
from toolkit.store.journal import Entry, Journal
from toolkit.store.label_sets import label_sets
from toolkit.store.verdicts import publish


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_claimed_size(width: int, height: int) -> bytes:
    """A few bytes that claim to be a large picture."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def png_with_a_bomb() -> bytes:
    """A whole picture with a text chunk of 20 kB that unpacks to 20 MB."""
    bomb = chunk(b"zTXt", b"comment\0\0" + zlib.compress(b"a" * 20_000_000, 9))
    whole = png((9, 9, 9))
    return whole[:33] + bomb + whole[33:]


def take_in(folder: Path, *made: dict) -> tuple[Store, object]:
    store = create_store(folder / "s")
    path = write_source(folder / "train.parquet", list(made))
    return store, ingest(store, "pickapic", [path])


PICTURE = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
GOOD = {
    "animated GIF": encoded(
        PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)] * 3, duration=5
    ),
    "CMYK JPEG": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "16-bit PNG": encoded(Image.fromarray(np.full((4, 4), 40_000, np.uint16)), "PNG"),
    "palette with transparency": encoded(PICTURE.convert("P"), "PNG", transparency=0),
    "lossless WebP": encoded(PICTURE, "WEBP", lossless=True),
}


@pytest.mark.parametrize("kind", GOOD)
def test_odd_kinds_of_images_come_in_and_go_out_as_they_were(tmp_path, kind):
    store, summary = take_in(tmp_path, source_row(0, jpg_0=GOOD[kind]))
    assert (summary.kept, summary.quarantined) == (1, 0)
    export_set(store, tmp_path / "out", Policy(), FORMATS["pickapic"])
    [found] = [r["bytes"] for r in rows(store, "images") if r["image_id"] == "uid-00000"]
    assert found == GOOD[kind]


BAD = {
    "60 megapixels": (png_of_claimed_size(10_000, 6_000), "the image has 10000 x 6000 pixels"),
    "60 gigapixels": (png_of_claimed_size(250_000, 240_000), "(60000000000 pixels) exceeds limit"),
    "zero bytes": (b"", "the image has no bytes"),
    "a text": (b"<html>not found</html>", "the image is a web page, not the file itself"),
    "a picture cut short": (png((1, 2, 3), 200)[:120], "cannot be decoded"),
    "a bomb in a text chunk": (png_with_a_bomb(), "cannot be decoded"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_image_is_set_aside_with_its_reason_and_the_rest_kept(tmp_path, kind):
    data, reason = BAD[kind]
    store, summary = take_in(tmp_path, source_row(0, jpg_1=data), source_row(2))
    assert (summary.kept, summary.quarantined) == (1, 1)
    [entry] = rows(store, "quarantine")
    assert reason in entry["reason"]


PROMPTS = {
    "100 kB": "x" * 100_000,
    "every plane": "".join(
        chr(code) for code in range(1, 0x2FFFF, 97) if not 0xD800 <= code < 0xE000
    ),
    "right to left and joined": (
        "\u202eabc\u202c \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u200d\ud7ff"
    ),
    "controls and separators": "a\0b\x1fc\x7f\u2028d\u2029e\ufeff",
    "combining": "Z\u0300\u0301\u0302\u0303" * 50,
    "SQL and markup": "'); DROP TABLE pairs; -- <script>alert(1)</script> {{7*7}} %s",
}


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("bare", [True, False])
def test_any_prompt_comes_in_and_goes_out_as_it_was(tmp_path, kind, bare):
    drop = ("jpg_0", "jpg_1") if bare else ()
    path = write_source(tmp_path / "t.parquet", [source_row(0, caption=PROMPTS[kind])], drop=drop)
    store = create_store(tmp_path / "s")
    assert ingest(store, "pickapic", [path]).kept == 1
    assert rows(store, "pairs")[0]["prompt"] == PROMPTS[kind]
    export_set(store, tmp_path / "out", Policy(images=not bare), FORMATS["pickapic"])
    again = create_store(tmp_path / "again")
    ingest(again, "pickapic", [tmp_path / "out" / "data"])
    assert rows(again, "pairs")[0]["prompt"] == PROMPTS[kind]


def test_paths_with_spaces_quotes_and_signs_of_globs_work_throughout(tmp_path):
    folder = tmp_path / 'it\'s a "folder" [1] *?'
    store, summary = take_in(folder, *(source_row(k) for k in range(4)))
    assert summary.kept == 4
    export_set(store, folder / "out 'x'", Policy(where="votes = 1"), FORMATS["chosen-rejected"])
    assert (folder / "out 'x'" / "README.md").exists()


def test_rows_with_the_same_ids_are_one_pair_and_counted(tmp_path):
    for images in (True, False):
        folder = tmp_path / str(images)
        made = [source_row(0), source_row(0), source_row(0, jpg_0=None if images else b"")]
        store = create_store(folder / "s")
        drop = () if images else ("jpg_0", "jpg_1")
        path = write_source(folder / "train.parquet", made[:2], drop=drop)
        summary = ingest(store, "pickapic", [path])
        assert (summary.kept, summary.duplicate) == (1, 1)
        assert len(rows(store, "pairs")) == len(rows(store, "votes")) == 1


@pytest.mark.parametrize("drop", [(), ("jpg_0", "jpg_1")])
def test_a_disk_that_fills_up_is_a_sentence_and_the_next_try_completes(tmp_path, monkeypatch, drop):
    path = write_source(tmp_path / "train.parquet", [source_row(k) for k in range(40)], drop=drop)
    store = create_store(tmp_path / "s")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"No space left on device.*run the same command"):
            ingest(store, "pickapic", [path])
    assert store.unfinished() == []  # it would hold what space there is
    assert ingest(store, "pickapic", [path]).kept == 40
    assert len(rows(store, "pairs")) == 40


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_read_only_folder_is_a_sentence(tmp_path):
    store, _ = take_in(tmp_path, source_row(0))
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(StoreError, match="No store could be made"):
        create_store(locked / "s")
    with pytest.raises(InputError, match="cannot be written"):
        export_set(store, locked / "out", Policy(), FORMATS["weights"])


@pytest.mark.parametrize("lock", [".ingest.lock", ".ingest.turn"])
def test_a_store_whose_folder_takes_no_files_is_a_sentence_and_loses_nothing(tmp_path, lock):
    """As on a read-only folder, and for root too: the file that an ingest opens is a folder."""
    path = write_source(tmp_path / "train.parquet", [source_row(0)])
    store = create_store(tmp_path / "s")
    store.folder(lock).mkdir()
    with pytest.raises(StoreError, match=r"cannot be written \(Is a directory\); fix"):
        ingest(store, "pickapic", [path])
    store.folder(lock).rmdir()
    assert ingest(store, "pickapic", [path]).kept == 1


def test_a_full_disk_in_any_other_verb_is_a_sentence_and_no_traceback(
    tmp_path, monkeypatch, capsys
):
    store, _ = take_in(tmp_path, *(source_row(k) for k in range(6)))
    command = ["outvoted", "flip", str(store.root), "--rate", "0.5", "--name", "half"]
    monkeypatch.setattr(sys, "argv", command)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(SystemExit) as ended:
            main()
    told = capsys.readouterr().err
    assert ended.value.code == 1
    assert told.startswith("outvoted: A file cannot be written or read (No space left on device);")
    assert "type the same command again" in told
    assert label_sets(store) == ["original"]
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, label_sets(store)) == (0, ["original", "half"])


def test_a_file_where_a_folder_is_needed_is_a_sentence(tmp_path):
    store, _ = take_in(tmp_path, source_row(0))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="No store could be made"):
        create_store(tmp_path / "file" / "s")
    with pytest.raises(InputError, match="cannot be written to"):
        export_set(store, tmp_path / "file" / "out", Policy(), FORMATS["weights"])


@pytest.mark.parametrize("table", ["pairs", "verdicts", "images"])
def test_a_damaged_part_of_a_store_is_a_sentence_in_every_verb(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    store, _ = take_in(tmp_path, *(source_row(k) for k in range(4)))
    journal = Journal(tmp_path / "verdicts.sqlite")
    journal.record([Entry(rows(store, "pairs")[0]["pair_id"], "anna", "drop")])
    publish(store, journal)
    part = parts(store.folder(table))[0]
    part.write_bytes(part.read_bytes()[:-30])
    verbs = [["export", str(store.root), "--out", str(tmp_path / "out")]]
    if table != "images":  # which labels do not look at
        verbs.append(["labels", "curated", str(store.root)])
    for verb in verbs:
        monkeypatch.setattr(sys, "argv", ["outvoted", *verb])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 1
        said = capsys.readouterr().err
        assert "cannot be read" in said
        assert "outvoted check" in said
        assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
