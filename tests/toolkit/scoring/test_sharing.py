"""Processes that fill the same scores at once write every row once, and lose none."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.factories import StoreFactory
from toolkit.errors import StoreError
from toolkit.scoring import Identity
from toolkit.scoring.run import Writer
from toolkit.store import Store
from toolkit.store.scores import read_scores, score_parts

FILL = """
import sys, time
from pathlib import Path
from functools import partial
from toolkit.scoring import Batch, Identity, Judge, Judged, Scorer
from toolkit.scoring import run
from toolkit.scoring.scorer import one_by_one
from toolkit.scoring.run import fill
from toolkit.store import open_store

run.FLUSH_SECONDS = 0.1
store, mine, *others = sys.argv[1:]
asked = 0

def judge(batch):  # nobody's begins before all the others' do, so that they overlap
    global asked
    asked += len(batch.prompts)
    Path(mine).touch()
    deadline = time.monotonic() + 600
    while not all(Path(other).exists() for other in others):
        assert time.monotonic() < deadline, "another process never began"
        time.sleep(0.005)
    time.sleep(0.05)
    return Judged(tuple(map(float, batch.images)), (False,) * len(batch.prompts))

made = Judge(Identity("1", None, "mean", "float64"), lambda p: p.getpixel((0, 0))[0],
             one_by_one(judge))
filled = fill(open_store(store), Scorer("red", "red", "red", lambda _: made), made, batch=2)
Path(mine).write_text(f"{asked} {filled.rows} {filled.elsewhere}")
"""


def filled_by(count: int, store: Store, folder: Path) -> list[tuple[int, int, int]]:
    """What each of `count` processes at once was asked to judge, wrote, and found written."""
    files = [folder / f"told-{k}" for k in range(count)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", FILL, store.root, file, *(f for f in files if f != file)]
        )
        for file in files
    ]
    assert [process.wait() for process in running] == [0] * count
    told = [[int(word) for word in file.read_text().split()] for file in files]
    return [(asked, rows, elsewhere) for asked, rows, elsewhere in told]


def written(store: Store) -> list[tuple[str, str | None]]:
    """Keys of all rows on the disk, as often as they stand there."""
    tables = [pq.read_table(file) for file in score_parts(store, "red")]
    rows = [row for table in tables for row in table.to_pylist()]
    return [(row["image_id"], row["prompt"]) for row in rows]


@pytest.mark.parametrize("count", [2, 3])
def test_processes_at_once_share_the_judging_and_write_each_row_once(
    count: int, make_store: StoreFactory, tmp_path: Path
) -> None:
    store = make_store(pairs=80)
    told = filled_by(count, store, tmp_path)
    keys = written(store)
    assert len(keys) == len(set(keys)) == 160
    surplus = sum(asked for asked, _, _ in told) - 160
    assert 0 <= surplus < 160 * (count - 1) / 2  # all of 160 (count - 1), if they did not share
    assert sum(rows for _, rows, _ in told) == 160
    assert all(rows + elsewhere == 160 for _, rows, elsewhere in told)
    scored = read_scores(store, "red").to_pylist()
    assert all(row["score"] == int(row["image_id"][4:8]) * 5 % 256 for row in scored)


def row(image_id: str) -> dict[str, object]:
    about = Identity("1", None, "mean", "float64").__dict__
    return {"image_id": image_id, "prompt": "a", "scorer": "red", **about, "score": 1.0}


def writer(store: Store, heard: list[int], version: str = "1") -> Writer:
    wanted = frozenset((name, "a") for name in ("x", "y", "z"))
    identity = Identity(version, None, "mean", "float64")
    return Writer(store, "red", identity, wanted, lambda rows: heard.append(len(rows)), set())


def test_what_both_judged_at_once_is_written_by_the_first(make_store: StoreFactory) -> None:
    store, heard = make_store(pairs=1), list[int]()
    one, two = writer(store, heard), writer(store, heard)
    one.add([row("x"), row("y")])
    two.add([row("y"), row("z")])
    one.flush()
    two.flush()
    assert heard == [2, 1]
    assert sorted(written(store)) == [("x", "a"), ("y", "a"), ("z", "a")]
    assert two.elsewhere == {("x", "a"), ("y", "a")}
    assert two.settled == {("x", "a"), ("y", "a"), ("z", "a")}
    assert one.settled == {("x", "a"), ("y", "a")}
    assert not one.elsewhere


def test_a_process_with_other_weights_is_told_before_it_mixes_rows(
    make_store: StoreFactory,
) -> None:
    store, heard = make_store(pairs=1), list[int]()
    one, two = writer(store, heard), writer(store, heard, version="2")
    one.add([row("x")])
    two.add([{**row("y"), "version": "2"}])
    one.flush()
    with pytest.raises(StoreError, match="cannot be mixed"):
        two.flush()
    assert written(store) == [("x", "a")]


def test_a_flush_that_was_broken_off_after_writing_writes_nothing_twice(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, heard = make_store(pairs=1), list[int]()
    one = writer(store, heard)
    one.add([row("x")])
    from toolkit.scoring import run as sharing

    def breaks(*given: object) -> Path:
        kept(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    kept = sharing.write_scores
    monkeypatch.setattr(sharing, "write_scores", breaks)
    with pytest.raises(KeyboardInterrupt):
        one.flush()
    monkeypatch.undo()
    one.flush()
    assert written(store) == [("x", "a")]
