"""A run as it can be read while it is written: its log, its sample images, whether it is alive.

A trainer appends lines and adds parts at the same time: a last line without a line break is not
complete yet, a part that was moved aside is no error, and an image that does not decode is still
being written.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from toolkit.files.atomic import LAPSE
from toolkit.minority import ell_sql
from toolkit.store.connection import add_trajectory, connect, fetch
from toolkit.store.layout import Store
from toolkit.store.runs import run_about

Point = dict[str, Any]

QUIET_SECONDS = 60.0
"""A run that wrote within so many seconds counts as running, however often it should log."""

_PATIENCE = 6
"""Times the usual time between two log points after which a silent run counts as stopped."""


def read_log(path: Path) -> list[Point]:
    """The entries of a JSON-lines file in order of step; [] where it does not exist yet.

    A half-written last line, and any other line that is no object with a step, is left out; a step
    that a resumed run wrote again counts as written last.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    by_step: dict[int, Point] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            by_step[int(entry["step"])] = dict(entry)
        except (ValueError, KeyError, TypeError):
            continue
    return [by_step[step] for step in sorted(by_step)]


def damaged_line(path: Path) -> int | None:
    """The number of the first line that is no entry. A last line without a line break counts an
    hour after the last change: until then it may be being written."""
    *lines, rest = path.read_bytes().split(b"\n")
    if rest and time.time() - path.stat().st_mtime > LAPSE:
        lines.append(rest)
    for number, line in enumerate(lines, 1):
        try:
            int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return number
    return None


@dataclass(frozen=True)
class Watched:
    """A run as far as it got."""

    run: str
    about: dict[str, Any]
    scalars: list[Point]
    """step, loss, accuracy, ell, pairs_per_second ... a log point."""
    held_out: list[Point]
    """step, accuracy, low, high, pairs a measuring."""
    checkpoints: list[int]
    """Steps."""
    samples: list[int]
    """Steps at which images were drawn."""
    written: float | None
    """When anything of it last changed, seconds since the epoch."""

    @property
    def step(self) -> int:
        """The last step that was logged or saved."""
        logged = [points[-1]["step"] for points in (self.scalars, self.held_out) if points]
        return max([0, *map(int, logged), *self.checkpoints, int(self.about.get("steps") or 0)])


def watch(store: Store, run: str) -> Watched:
    """Read a run's log as it is now. StoreError where the store has no such run."""
    about = run_about(store, run)
    folder = store.run(run)
    return Watched(
        run=run,
        about=about,
        scalars=read_log(folder / "metrics" / "scalars.jsonl"),
        held_out=read_log(folder / "metrics" / "held_out.jsonl"),
        checkpoints=_steps(folder / "checkpoints"),
        samples=_steps(folder / "samples"),
        written=_last_written(folder),
    )


def _steps(folder: Path) -> list[int]:
    names = [path.name.removeprefix("step-") for path in folder.glob("step-*")]
    return sorted(int(name) for name in names if name.isdigit())


def _last_written(folder: Path) -> float | None:
    patterns = ("run.json", "metrics/*.jsonl", "trajectory/rank-*", "checkpoints", "samples/*")
    times = []
    for pattern in patterns:
        for path in folder.glob(pattern):
            try:
                times.append(path.stat().st_mtime)
            except FileNotFoundError:  # moved aside by a run that resumes
                continue
    return max(times, default=None)


@dataclass(frozen=True)
class Status:
    """The state of a run, as far as its files show."""

    word: str
    """finished, running, silent or recorded."""
    sentence: str


def status(watched: Watched, log_every: int | None = None, now: float | None = None) -> Status:
    """The state that can be known: files show when a run ended, not whether a process is alive.

    `log_every`: steps between log points, where the recipe says; `now`: seconds since the epoch.
    """
    about, step = watched.about, watched.step
    planned = about.get("planned_steps")
    of = f" of {planned:,}" if isinstance(planned, int) else ""
    if about.get("finished"):
        return Status("finished", f"finished after {step:,} steps")
    if planned is None and "finished" not in about:
        return Status("recorded", f"{step:,} steps recorded by a trainer that marks no end")
    age = (now or time.time()) - (watched.written or 0.0)
    if age <= max(QUIET_SECONDS, _PATIENCE * _between(watched, log_every)):
        return Status("running", f"running: step {step:,}{of}, last sign {_ago(age)} ago")
    back = max((at for at in watched.checkpoints), default=0)
    return Status(
        "silent",
        f"interrupted, or stuck: nothing was written for {_ago(age)}, at step {step:,}{of}; it can "
        f"resume from step {back:,}",
    )


def _between(watched: Watched, log_every: int | None) -> float:
    """Seconds between two log points at the speed of the last one; 0 where it is not known."""
    if not watched.scalars or not log_every:
        return 0.0
    speed = watched.scalars[-1].get("pairs_per_second")
    pairs = watched.about.get("pairs_per_step")
    return log_every * pairs / speed if speed and pairs else 0.0


def _ago(seconds: float) -> str:
    if seconds < 100:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


def thinned(points: Sequence[Point], name: str, most: int = 600) -> tuple[list[int], list[float]]:
    """(steps, values) of a scalar, in at most `most` points: means of neighbours beyond that."""
    known = [(int(p["step"]), float(p[name])) for p in points if _number(p.get(name))]
    size = -(-len(known) // most) or 1
    groups = [known[start : start + size] for start in range(0, len(known), size)]
    steps = [group[-1][0] for group in groups]
    return steps, [sum(value for _, value in group) / len(group) for group in groups]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def ell_by_timestep(
    store: Store, run: str, flipped: Sequence[str] | None, *, share: float = 0.3, bins: int = 10
) -> pa.Table | None:
    """Quartiles of the policy's ell over the last `share` of the steps so far, by timestep.

    Columns pairs (all pairs, label as it was, label flipped), low, high, count, lower, median,
    upper, through: the last step. ell is under the labels trained on. None where no row with a
    timestep is there yet, or its parts are being moved.
    """
    timesteps = int(run_about(store, run).get("train_timesteps", 1000))
    group = "'all pairs'"
    if flipped is not None:
        group = "CASE WHEN f.pair_id IS NULL THEN 'label as it was' ELSE 'label flipped' END"
    sql = (
        "WITH last AS (SELECT max(step) AS step FROM trajectory WHERE kind = 'train'),"
        f" rows AS (SELECT {group} AS pairs, least(timestep * {bins} // {timesteps}, {bins - 1})"
        f" AS bin, CASE label WHEN 1 THEN 1 WHEN 0 THEN -1 END * {ell_sql()}::DOUBLE AS ell"
        " FROM trajectory t LEFT JOIN flipped f USING (pair_id), last"
        f" WHERE kind = 'train' AND timestep IS NOT NULL AND t.step >= {1 - share} * last.step)"
        f" SELECT pairs, (bin * {timesteps / bins})::DOUBLE AS low,"
        f" ((bin + 1) * {timesteps / bins})::DOUBLE AS high,"
        " count(ell) AS count, quantile_cont(ell, .25) AS lower, median(ell) AS median,"
        " quantile_cont(ell, .75) AS upper, any_value(last.step) AS through"
        " FROM rows, last WHERE isfinite(ell) GROUP BY pairs, bin ORDER BY pairs, bin"
    )
    try:
        with connect(store) as con:
            add_trajectory(con, store, run)
            con.register("flipped", pa.table({"pair_id": pa.array(flipped or [], pa.string())}))
            table = fetch(con, sql)
    except duckdb.IOException:
        return None
    return table if table.num_rows else None


def sample_prompts(store: Store, run: str, step: int) -> list[str]:
    """The prompts of the images drawn at a step; [] where they are not written yet."""
    try:
        text = (_samples(store, run, step) / "prompts.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    return text.split("\n")[:-1]


def sample_image(store: Store, run: str, step: int, number: int) -> bytes | None:
    """The encoded image of prompt `number`; None where it is not there yet."""
    try:
        return (_samples(store, run, step) / f"{int(number):02d}.png").read_bytes()
    except OSError:
        return None


def _samples(store: Store, run: str, step: int) -> Path:
    return store.run(run) / "samples" / f"step-{int(step):06d}"
