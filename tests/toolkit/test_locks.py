"""A lease has one holder at a time, ends with its process, and says who has it."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.errors import StoreError
from toolkit.store.locks import LAPSE, Lease, holder_of


def forked(work: Callable[[], object]) -> int:
    """The process id of a child that ends after `work`, without cleaning up."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def lease_file(folder: Path) -> Path:
    [file] = folder.glob("*.json")
    return file


def test_a_second_process_is_told_who_has_it_until_it_is_given_back(tmp_path: Path) -> None:
    folder = tmp_path / "lease"
    with Lease(folder, "run 'mine'"):
        words = rf"^Run 'mine' is being written by process {os.getpid()} on .*, since .*kill"
        with pytest.raises(StoreError, match=words):
            Lease(folder, "run 'mine'")
        assert not list(folder.glob(".*"))
    assert holder_of(folder) is None
    Lease(folder, "run 'mine'").release(forget=True)
    assert not folder.exists()


def test_it_ends_with_its_process(tmp_path: Path) -> None:
    read, write = os.pipe()

    def holds() -> None:
        Lease(tmp_path / "lease", "run 'mine'")
        os.write(write, b"!")
        time.sleep(600)

    child = forked(holds)
    os.read(read, 1)
    with pytest.raises(StoreError, match=f"process {child} on"):
        Lease(tmp_path / "lease", "run 'mine'")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    Lease(tmp_path / "lease", "run 'mine'").release()


def test_on_another_host_it_ends_when_it_is_no_longer_touched(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "run 'mine'")
    file = lease_file(tmp_path)
    about = json.loads(file.read_text())
    file.write_text(json.dumps({**about, "host": "node7", "machine": "another", "process": 3}))
    with pytest.raises(StoreError, match=r"process 3 on node7.*or delete .*1\.json"):
        Lease(tmp_path, "run 'mine'")
    file.write_text("")  # where files cannot be linked, one may be seen while it is written
    with pytest.raises(StoreError, match="a host that it does not name"):
        Lease(tmp_path, "run 'mine'")
    silent = time.time() - LAPSE - 5
    os.utime(file, (silent, silent))
    with Lease(tmp_path, "run 'mine'"):
        assert not lease.check()
        with pytest.raises(StoreError, match=r"taken over by process"):
            lease.must_hold()
    lease.release()


def test_without_links_and_after_a_deletion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuses)
    lease = Lease(tmp_path, "run 'mine'")
    with pytest.raises(StoreError, match="is being written"):
        Lease(tmp_path, "run 'mine'")
    lease_file(tmp_path).unlink()
    with pytest.raises(StoreError, match="no longer writes to run 'mine': it was taken over"):
        lease.must_hold()


def test_of_many_that_want_it_at_once_one_has_it(tmp_path: Path) -> None:
    """In every round the last holder was killed, and six processes ask at the same moment."""
    for round_ in range(6):
        start, go = os.pipe()
        taken = tmp_path / f"taken-{round_}"
        taken.mkdir()

        def wants(start: int = start, go: int = go, taken: Path = taken) -> None:
            os.close(go)
            os.read(start, 1)
            Lease(tmp_path / "lease", "run 'mine'")
            (taken / str(os.getpid())).touch()
            time.sleep(600)

        children = [forked(wants) for _ in range(6)]
        os.close(start)
        os.close(go)
        losers = [os.wait()[0] for _ in range(5)]
        [winner] = set(children) - set(losers)
        holder = holder_of(tmp_path / "lease")
        assert holder is not None
        assert (holder.process, holder.alive) == (winner, True)
        while not list(taken.iterdir()):
            time.sleep(0.001)
        assert [path.name for path in taken.iterdir()] == [str(winner)]
        os.kill(winner, signal.SIGKILL)
        os.waitpid(winner, 0)
    assert [path.name for path in (tmp_path / "lease").iterdir()] == ["6.json"]
