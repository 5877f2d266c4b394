"""Fill a store's scores: every image and prompt that lacks one, batched, in parts as it goes.

Images are decoded and prepared in threads while the model judges earlier ones. What is written
stays, whatever happens next; the same command resumes where it stopped.

Several processes may fill one scorer's scores at once: what one has written the others leave
out, and a row that two of them judged is written once.
"""

import os
import random
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from toolkit.errors import InputError
from toolkit.image_files import decode
from toolkit.progress import SILENT, Progress
from toolkit.scoring.scorer import Batch, Judge, Scorer
from toolkit.store import Store
from toolkit.store.images import ImageReader
from toolkit.store.locks import first_at, turn
from toolkit.store.scores import (
    Identity,
    Key,
    claim_scores,
    keys_in,
    prompt_hash,
    score_parts,
    unscored,
    write_scores,
)

FLUSH_SECONDS = 20.0
FLUSH_ROWS = 4096


@dataclass
class Writer:
    """Collects rows and writes a part now and then, so that a killed run loses seconds."""

    store: Store
    scorer: str
    identity: Identity
    wanted: frozenset[Key]
    """What this process is to score."""
    wrote: Callable[[list[dict[str, Any]]], None]
    """Hears the rows that were written."""
    seen: set[str]
    """Parts whose rows are accounted for: those present when `wanted` was computed."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)
    elsewhere: set[Key] = field(default_factory=set)
    """Of `wanted`: what another process has written meanwhile."""
    settled: set[Key] = field(default_factory=set)
    """Of `wanted`: what was judged here or written elsewhere."""

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Keep rows of SCORES; now and then they are written."""
        self.rows += rows
        self.settled |= {(row["image_id"], row["prompt"]) for row in rows}
        if len(self.rows) >= FLUSH_ROWS or time.monotonic() - self.since > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what others have not. StoreError where they score in another way."""
        with turn(self.store):
            claim_scores(self.store, self.scorer, self.identity)
            self._look()
            rows = [r for r in self.rows if (r["image_id"], r["prompt"]) not in self.elsewhere]
            written = write_scores(self.store, self.scorer, rows)
            self.seen |= {written.name} if written else set()
        self.rows, self.since = [], time.monotonic()
        self.wrote(rows)

    def _look(self) -> None:
        new = [file for file in score_parts(self.store, self.scorer) if file.name not in self.seen]
        self.seen |= {file.name for file in new}
        known = keys_in(new) & self.wanted
        self.elsewhere |= known
        self.settled |= known


@dataclass
class Filled:
    """What was done: rows written, of these without a score, and prompts that were cut."""

    rows: int = 0
    failed: int = 0
    truncated: int = 0
    elsewhere: int = 0
    """Rows that another process wrote meanwhile."""
    reasons: dict[str, int] = field(default_factory=dict)


def fill(
    store: Store,
    scorer: Scorer,
    judge: Judge,
    *,
    batch: int = 32,
    shard: tuple[int, int] = (0, 1),
    retry: bool = False,
    replace: bool = False,
    progress: Progress = SILENT,
) -> Filled:
    """Score what lacks a score. `shard` is (i, n): images whose hash falls on i of n.

    `progress` counts rows, one task a scorer. InputError for a batch below 1; StoreError where the
    folder holds scores of another identity and `replace` is not given. An image that cannot be
    read gets a row without a score, with the reason. Processes that fill the same scores at the
    same time share the work: the first goes in order, every other takes the batches in an order of
    its own (in an object store all of them do), and each leaves out what another has written.
    """
    if batch < 1:
        raise InputError(f"--batch is {batch}; it must be 1 or more.")
    with turn(store):
        claim_scores(store, scorer.name, judge.identity, replace=replace)
    seen = {file.name for file in score_parts(store, scorer.name)}
    wanted = unscored(store, scorer.name, sees_prompt=scorer.sees_prompt, retry=retry)
    keys = [key for key in wanted if shard_of(key[0], shard[1]) == shard[0]]
    filled = Filled()
    writer = Writer(
        store, scorer.name, judge.identity, frozenset(keys), partial(_count, filled), seen
    )
    progress.update(scorer.name, 0, len(keys))
    with first_at(store, f".scoring-{scorer.name}") as first:
        order = keys if first else shuffled(keys, batch, f"{os.getpid()} {time.time_ns()}")
        read = ImageReader(store).read
        try:
            for rows in judged_rows(order, scorer, judge, read, batch, leave_out=writer.elsewhere):
                writer.add(rows)
                progress.update(scorer.name, len(writer.settled), len(keys))
        finally:
            writer.flush()
    filled.elsewhere = len(writer.elsewhere)
    return filled


def shard_of(image_id: str, count: int) -> int:
    """Which of `count` processes an image belongs to: by its name, so all of them agree."""
    return zlib.crc32(image_id.encode()) % count


def shuffled(keys: Sequence[Key], batch: int, seed: str) -> list[Key]:
    """The same keys, batches of them in an order drawn from `seed`.

    Within a batch they stay in order, since neighbours' images are in one row group of a file.
    """
    starts = list(range(0, len(keys), batch))
    random.Random(seed).shuffle(starts)
    return [key for start in starts for key in keys[start : start + batch]]


def judged_rows(
    keys: Sequence[Key],
    scorer: Scorer,
    judge: Judge,
    read: Callable[[str], bytes],
    batch: int,
    *,
    leave_out: Set[Key] = frozenset(),
) -> Iterator[list[dict[str, Any]]]:
    """Rows of SCORES, a list a batch, in the order of `keys`.

    `leave_out` may grow meanwhile: keys that are among it when their turn comes are passed over.
    """
    sent: deque[list[tuple[Key, str | None]]] = deque()  # each key, and why it was not sent

    def batches() -> Iterator[Batch]:
        for prepared in _prepared(keys, judge, read, batch, leave_out):
            good = [(key, image) for key, image in prepared if not isinstance(image, InputError)]
            reasons = [
                str(image) if isinstance(image, InputError) else None for _, image in prepared
            ]
            sent.append([(key, why) for (key, _), why in zip(prepared, reasons, strict=True)])
            if good:
                prompts = tuple(prompt or "" for (_, prompt), _ in good)
                yield Batch(prompts, tuple(image for _, image in good))

    def rows(answers: Iterator[tuple[float, bool]]) -> list[dict[str, Any]]:
        made = []
        for key, reason in sent.popleft():
            score, cut = (None, None) if reason else next(answers)
            made.append(_row(key, scorer, judge.identity, score, cut, reason))
        return made

    def unsent() -> bool:
        return bool(sent) and all(reason for _, reason in sent[0])

    for judged in judge.stream(batches()):
        while unsent():
            yield rows(iter(()))
        yield rows(zip(judged.scores, judged.truncated, strict=True))
    while unsent():
        yield rows(iter(()))


def _row(
    key: Key,
    scorer: Scorer,
    identity: Identity,
    score: float | None,
    truncated: bool | None,
    reason: str | None,
) -> dict[str, Any]:
    image_id, prompt = key
    if score is not None and score != score:
        score, reason = None, "the model's score is not a number"
    return {
        "image_id": image_id,
        "prompt_hash": None if prompt is None else prompt_hash(prompt),
        "prompt": prompt,
        "scorer": scorer.name,
        **identity.__dict__,
        "score": score,
        "truncated": truncated,
        "reason": reason,
    }


def _prepared(
    keys: Sequence[Key],
    judge: Judge,
    read: Callable[[str], bytes],
    batch: int,
    leave_out: Set[Key],
) -> Iterator[list[tuple[Key, Any]]]:
    """Batches of keys, each with its image or the InputError that says why not; two ahead."""
    workers = max(2, os.cpu_count() or 2)

    def prepare(data: bytes | InputError) -> Any:
        try:
            return data if isinstance(data, InputError) else judge.prepare(decode(data).image)
        except InputError as problem:
            return problem

    def data_of(image_id: str) -> bytes | InputError:
        try:
            return read(image_id)
        except InputError as problem:
            return problem

    waiting: deque[list[tuple[Key, Future[Any]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(keys), batch):
            wanted = [key for key in keys[start : start + batch] if key not in leave_out]
            waiting.append([(key, pool.submit(prepare, data_of(key[0]))) for key in wanted])
            if len(waiting) > 2:
                yield [(key, future.result()) for key, future in waiting.popleft()]
        while waiting:
            yield [(key, future.result()) for key, future in waiting.popleft()]


def _count(filled: Filled, rows: list[dict[str, Any]]) -> None:
    filled.rows += len(rows)
    filled.truncated += sum(bool(row["truncated"]) for row in rows)
    for row in rows:
        if row["score"] is None:
            filled.failed += 1
            filled.reasons[row["reason"]] = filled.reasons.get(row["reason"], 0) + 1
