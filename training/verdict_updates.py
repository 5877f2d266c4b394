"""The live loop: verdicts that curators publish while a run goes on, applied between two steps.

Rank 0 looks at the published verdicts every n steps, writes what it found to `verdicts.jsonl` of
the run and syncs it, and only then do all ranks train by it. A resumed run replays that log at the
same steps, and looks for itself only past the log's end.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.files.atomic import parts, sync_folder
from toolkit.store import Store
from toolkit.store.verdicts import PREFERENCE
from training.pairs import Pairs, Rulings, published, ruled
from training.recipe import Live

_START = -1
_NONE = {"choice": "unsure", "verdict_id": None}


class VerdictLog:
    """What was found at which step: one JSON line a look, changes only."""

    def __init__(self, run: Path, *, fresh: bool) -> None:
        """`fresh`: the run begins now, and what an attempt before it left is not its log."""
        self.path = run / "verdicts.jsonl"
        self.looks: dict[int, dict[str, dict[str, Any]]] = {}
        if fresh:
            self.path.unlink(missing_ok=True)
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").split("\n")[:-1]:
                entry = json.loads(line)
                self.looks[entry["step"]] = entry["changes"]
            self._drop_half_a_line()

    def append(self, step: int, changes: Rulings) -> None:
        """Write one look; on the disk when this returns."""
        line = json.dumps({"step": step, "changes": changes}) + "\n"
        fresh = not self.path.exists()
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        if fresh:  # a synced file that no folder names is lost with the power
            sync_folder(self.path.parent)
        self.looks[step] = {pair: dict(ruling) for pair, ruling in changes.items()}

    def _drop_half_a_line(self) -> None:
        """What a kill left after the last line's end was never trained on."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            os.truncate(self.path, len(whole))


class LiveVerdicts:
    """Keeps a run's pairs in step with the published verdicts."""

    def __init__(self, store: Store, log: VerdictLog, settings: Live, accelerator: Any) -> None:
        self._store = store
        self._settings = settings
        self._accelerator = accelerator
        self._files: list[Path] | None = None
        self._log = log
        self.known: dict[str, dict[str, Any]] = {}
        """Outcomes as last looked at."""

    def start(self) -> dict[str, dict[str, Any]]:
        """The outcomes that decide which pairs the run has; of the log where it has begun."""
        from accelerate.utils import broadcast_object_list

        found: list[Any] = [self._log.looks.get(_START)]
        if found[0] is None:
            found = broadcast_object_list(
                [self._news() if self._accelerator.is_main_process else None]
            )
        self.known = dict(found[0])
        return self.known

    def replay(self, begin: int, pairs: Pairs) -> None:
        """Change `pairs` by every look before step `begin`, where a resumed run goes on."""
        for step in sorted(self._log.looks):
            if _START < step < begin:
                self.known.update(self._log.looks[step])
                rule(pairs, self._log.looks[step], self._settings.keep)

    def write_start(self) -> None:
        """Log what `start` found, once the run has its folder. On the main process."""
        if _START not in self._log.looks:
            self._log.append(_START, self.known)

    def due(self, step: int) -> bool:
        """Whether the verdicts are looked at before this step."""
        return step > 0 and step % self._settings.every == 0

    def apply(self, step: int, pairs: Pairs) -> int:
        """Look and change `pairs` by what is new; how many of them changed.

        On every rank, before `step`. A verdict on a pair that the run left out at its start waits
        for the next run.
        """
        changes = self._look(step)
        self.known.update(changes)
        return rule(pairs, changes, self._settings.keep)

    def _look(self, step: int) -> dict[str, dict[str, Any]]:
        if step in self._log.looks:
            return self._log.looks[step]
        from accelerate.utils import broadcast_object_list

        found: list[Any] = [None]
        if self._accelerator.is_main_process:
            found = [self._news()]
            self._log.append(step, found[0])
        return dict(broadcast_object_list(found)[0])

    def _news(self) -> dict[str, dict[str, Any]]:
        """Outcomes that differ from those known; a verdict taken back becomes `unsure`."""
        files = parts(self._store.folder("verdicts"))
        if files == self._files:
            return {}
        self._files = files
        now = published(self._store)
        gone = {pair: dict(_NONE) for pair in self.known.keys() - now.keys()}
        changed = {pair: one for pair, one in now.items() if self.known.get(pair) != one}
        return {**gone, **changed}


def rule(pairs: Pairs, rulings: Mapping[str, Mapping[str, Any]], keep: str) -> int:
    """Apply outcomes to pairs in place; how many of them concern a pair that is there."""
    spots = {pair: k for k, pair in enumerate(pairs.pair_id.tolist()) if pair in rulings}
    for pair, k in spots.items():
        set_label = None if pairs.set_label[k] != pairs.set_label[k] else float(pairs.set_label[k])
        label, verdict_id, reason = ruled(set_label, rulings[pair])
        pairs.dropped[k] = reason is not None or label is None
        if not pairs.dropped[k]:
            pairs.label[k] = label
        kept = PREFERENCE.get(rulings[pair]["choice"]) == set_label
        pairs.as_one[k] = keep == "one" and kept
        pairs.verdict_id[k] = verdict_id
    return len(spots)
