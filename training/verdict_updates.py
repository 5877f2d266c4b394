"""Verdicts that curators publish while a run trains, applied between two steps.

Every n steps rank 0 reads the published verdicts, writes what changed to the run's `verdicts.jsonl`
and syncs it; only then do all ranks train by it. A resumed run replays that log at the same steps
and reads the published verdicts again past the log's end.
"""

import json
import os
from pathlib import Path
from typing import Any

from toolkit.files.atomic import parts, sync_folder
from toolkit.store import Store
from training.pairs import Pairs, Verdicts, apply_verdicts, published_verdicts
from training.recipe import Live

_START = -1
_NONE = {"choice": "unsure", "verdict_id": None}


class VerdictLog:
    """The changes read at each step: one JSON line a reading."""

    def __init__(self, run: Path, *, fresh: bool) -> None:
        """`fresh`: the run starts now, and a log that an earlier attempt left is deleted."""
        self.path = run / "verdicts.jsonl"
        self.changes: dict[int, dict[str, dict[str, Any]]] = {}
        if fresh:
            self.path.unlink(missing_ok=True)
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").split("\n")[:-1]:
                entry = json.loads(line)
                self.changes[entry["step"]] = entry["changes"]
            self._drop_partial_line()

    def append(self, step: int, changes: Verdicts) -> None:
        """Write one reading; it is on the disk when this returns."""
        line = json.dumps({"step": step, "changes": changes}) + "\n"
        fresh = not self.path.exists()
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        if fresh:  # without this a power failure may lose the file's name
            sync_folder(self.path.parent)
        self.changes[step] = {pair: dict(verdict) for pair, verdict in changes.items()}

    def _drop_partial_line(self) -> None:
        """A line that a kill left unfinished was never trained on."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            os.truncate(self.path, len(whole))


class VerdictUpdates:
    """Applies published verdicts to a run's pairs as it trains."""

    def __init__(self, store: Store, log: VerdictLog, settings: Live, accelerator: Any) -> None:
        self._store = store
        self._settings = settings
        self._accelerator = accelerator
        self._files: list[Path] | None = None
        self._log = log
        self.known: dict[str, dict[str, Any]] = {}
        """Verdicts as last read."""

    def start(self) -> dict[str, dict[str, Any]]:
        """The verdicts that decide which pairs the run has; from the log once it has started."""
        from accelerate.utils import broadcast_object_list

        start: list[Any] = [self._log.changes.get(_START)]
        if start[0] is None:
            main = self._accelerator.is_main_process
            start = broadcast_object_list([self._new_verdicts() if main else None])
        self.known = dict(start[0])
        return self.known

    def replay(self, begin: int, pairs: Pairs) -> None:
        """Apply every reading before step `begin`, from which a resumed run continues."""
        for step in sorted(self._log.changes):
            if _START < step < begin:
                self.known.update(self._log.changes[step])
                apply_verdicts(pairs, self._log.changes[step], self._settings.keep)

    def write_start(self) -> None:
        """Log what `start` returned, once the run has its folder. On the main process."""
        if _START not in self._log.changes:
            self._log.append(_START, self.known)

    def due(self, step: int) -> bool:
        """Whether the verdicts are read again before this step."""
        return step > 0 and step % self._settings.every == 0

    def apply(self, step: int, pairs: Pairs) -> int:
        """Read the verdicts and apply what is new to `pairs`; how many of them changed.

        On every rank, before `step`. A verdict on a pair that the run left out at its start has no
        effect until the next run.
        """
        changes = self._changes_at(step)
        self.known.update(changes)
        return apply_verdicts(pairs, changes, self._settings.keep)

    def _changes_at(self, step: int) -> dict[str, dict[str, Any]]:
        if step in self._log.changes:
            return self._log.changes[step]
        from accelerate.utils import broadcast_object_list

        changes: list[Any] = [None]
        if self._accelerator.is_main_process:
            changes = [self._new_verdicts()]
            self._log.append(step, changes[0])
        return dict(broadcast_object_list(changes)[0])

    def _new_verdicts(self) -> dict[str, dict[str, Any]]:
        """Verdicts that differ from those known; one that was undone becomes `unsure`."""
        files = parts(self._store.folder("verdicts"))
        if files == self._files:
            return {}
        self._files = files
        now = published_verdicts(self._store)
        gone = {pair: dict(_NONE) for pair in self.known.keys() - now.keys()}
        changed = {pair: v for pair, v in now.items() if self.known.get(pair) != v}
        return {**gone, **changed}
