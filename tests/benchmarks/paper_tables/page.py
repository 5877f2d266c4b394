"""The tables as pages: cells in, Markdown out; what was not run is shown as such."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.ranking_metrics import Interval, mean_interval

Scores = Mapping[str, Mapping[int, float]]
"""model -> prompt_index -> value of one figure."""


@dataclass(frozen=True)
class Run:
    """A cell of a table and its result, None if it was not run yet."""

    method: str
    rate: float
    seed: int
    name: str
    result: Mapping[str, Any] | None


@dataclass(frozen=True)
class Drawn:
    """Samples of every model that were drawn in one way; models are named NAME/STEP."""

    how: str
    """In words, as `without guidance`."""
    reward: Scores
    accuracy: Scores
    """Share of a prompt's mentioned attributes that the image has."""


def figure(scores: pa.Table, name: str) -> Scores:
    """One figure of a scores table (model, prompt_index, figure, value)."""
    values: dict[str, dict[int, float]] = {}
    for row in scores.to_pylist():
        if row["figure"] == name:
            values.setdefault(row["model"], {})[row["prompt_index"]] = row["value"]
    return values


def markdown(
    title: str,
    question: str,
    runs: Sequence[Run],
    drawn: Sequence[Drawn],
    first: str,
    *,
    rival: str | None = None,
    about: Sequence[str] = (),
) -> str:
    """The whole page of a table: samples, held-out accuracy over training, speed.

    Intervals are over prompts (95 %, bootstrap), seeds of a method pooled. `rival`: the method
    that the others are compared with, seed by seed. `about`: paragraphs on how cells were made.
    """
    rates = list(dict.fromkeys(run.rate for run in runs))
    begun = {run.rate for run in runs if run.result is not None}
    parts = [f"# {title}", question, *about, *_preface(runs, first, rival)]
    for rate in rates:
        here = [run for run in runs if run.rate == rate]
        parts.append(f"## {rate:.0%} of the labels flipped")
        if begun and rate not in begun:  # pages of dashes would bury what there is
            methods = ", ".join(dict.fromkeys(run.method for run in here))
            parts.append(f"None of the {len(here)} cells was run ({methods}).")
            continue
        for some in drawn:
            parts += [f"Samples {some.how}:", _samples(here, some, first, rival)]
        parts += ["Held-out accuracy of ell by step, true labels, mean over seeds:", _curves(here)]
    parts += ["## Speed", _speed(runs)]
    return "\n\n".join(parts) + "\n"


def _preface(runs: Sequence[Run], first: str, rival: str | None) -> list[str]:
    done = sum(_whole(run) for run in runs)
    failed = [
        f"{run.name}: {run.result['failed']}"
        for run in runs
        if run.result is not None and "failed" in run.result
    ]
    rivalry = (
        f" `over {rival}` is the difference to that method's samples at the same seed and kind of "
        "checkpoint."
    )
    lines = [
        f"{done} of {len(runs)} cells are there"
        + (f", {len(failed)} failed" if failed else "")
        + ". A dash means not run.",
        f"Gains and win rates are against {first}, on the same prompts and noise, with 95 % "
        "intervals over prompts; `by seed` are the gains of the single runs, whose spread those "
        f"intervals do not contain.{rivalry if rival else ''} `best` is the checkpoint that early "
        "stopping would have taken: highest accuracy on held-out pairs whose labels are flipped at "
        "the same rate. Accuracy under true labels is measured on other pairs than those it "
        "chooses by.",
    ]
    return [*lines, *(f"Failed: {line}" for line in failed)]


def _samples(runs: Sequence[Run], drawn: Drawn, first: str, rival: str | None) -> str:
    head = ["method", "seeds", "checkpoint", "reward", "gain", "by seed", "win rate"]
    head += [*([f"over {rival}"] if rival else []), "prompt accuracy", "ell"]
    base, prompts = drawn.reward.get(first, {}), drawn.accuracy.get(first, {})
    blank = [""] * (len(head) - 6)
    rows = [[first, "", "", _mean(base), "", *blank, _mean(prompts), ""]]
    for method in dict.fromkeys(run.method for run in runs):
        mine = [run for run in runs if run.method == method]
        done = [run for run in mine if _whole(run)]
        for when in ("last", "best"):
            names = [_sampled(run, when) for run in done]
            seeds = [_pooled([name], drawn.reward, base) for name in names]
            rows.append(
                [
                    _titled(method, done),
                    f"{len(done)}/{len(mine)}",
                    when,
                    _cell(_pooled(names, drawn.reward)),
                    _cell(_pooled(names, drawn.reward, base), sign=True),
                    " ".join(f"{gain.value:+.2f}" for gain in seeds if gain.value is not None)
                    or "–",
                    _cell(_pooled(names, drawn.reward, base, won=True)),
                    *([_cell(_over(runs, done, rival, when, drawn.reward), True)] if rival else []),
                    _cell(_pooled(names, drawn.accuracy)),
                    _ell(done, when),
                ]
            )
    return _table(head, rows)


def _sampled(run: Run, when: str) -> str:
    """The name of the samples of a run's last or best checkpoint."""
    assert run.result is not None
    step = run.result["best_step"] if when == "best" else run.result["curve"][-1]["step"]
    return f"{run.name}/{step}"


def _over(
    runs: Sequence[Run], done: Sequence[Run], rival: str, when: str, reward: Scores
) -> Interval:
    """What a method's samples gained over the rival's of the same seed; itself has nothing."""
    others = {run.seed: run for run in runs if run.method == rival and _whole(run)}
    values: list[float] = []
    prompts: list[int] = []
    for run in done:
        other = others.get(run.seed)
        if other is None or other.name == run.name:
            continue
        theirs = reward.get(_sampled(other, when), {})
        for prompt, value in reward.get(_sampled(run, when), {}).items():
            values.append(value - theirs.get(prompt, np.nan))
            prompts.append(prompt)
    if not values:
        return Interval(None, None, None)
    return mean_interval(np.array(values), np.array(prompts), resamples=1000)


def _titled(method: str, done: Sequence[Run]) -> str:
    picked = {str(run.result["method"]) for run in done if run.result} - {method}
    return f"{method} ({', '.join(sorted(picked))})" if picked else method


def _pooled(
    names: Sequence[str], scores: Scores, base: Mapping[int, float] | None = None, won: bool = False
) -> Interval:
    values: list[float] = []
    prompts: list[int] = []
    for name in names:
        for prompt, value in scores.get(name, {}).items():
            if base is not None:
                value -= base.get(prompt, np.nan)
            values.append((np.sign(value) + 1) / 2 if won else value)
            prompts.append(prompt)
    if not values:
        return Interval(None, None, None)
    return mean_interval(np.array(values), np.array(prompts), resamples=1000)


def _mean(values: Mapping[int, float]) -> str:
    return _cell(_pooled(["it"], {"it": values}))


def _cell(interval: Interval, sign: bool = False) -> str:
    if interval.value is None:
        return "–"
    value = f"{interval.value:+.3f}" if sign else f"{interval.value:.3f}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} ({interval.low:.3f} to {interval.high:.3f})"


def _ell(done: Sequence[Run], when: str) -> str:
    """Held-out accuracy under true labels at the last or the best checkpoint, mean over seeds."""
    values = []
    for run in done:
        assert run.result is not None
        curve = run.result["curve"]
        step = run.result["best_step"] if when == "best" else curve[-1]["step"]
        values += [point["clean"] for point in curve if point["step"] == step]
    return f"{np.mean(values):.3f}" if values else "–"


def _curves(runs: Sequence[Run]) -> str:
    steps = sorted({p["step"] for run in runs if _whole(run) for p in _curve(run)})
    rows = []
    for method in dict.fromkeys(run.method for run in runs):
        done = [run for run in runs if run.method == method and _whole(run)]
        row = [method]
        for step in steps:
            values = [p["clean"] for run in done for p in _curve(run) if p["step"] == step]
            row.append(f"{np.mean(values):.3f}" if values else "–")
        rows.append(row)
    return _table(["method", *map(str, steps)], rows)


def _speed(runs: Sequence[Run]) -> str:
    """Pairs per second by method, median over cells, and as a share of the first method's."""
    speeds: dict[str, float] = {}
    methods = list(dict.fromkeys(run.method for run in runs))
    for method in methods:
        values = [
            run.result["pairs_per_second"]
            for run in runs
            if run.method == method and run.result is not None and _whole(run)
        ]
        if values:
            speeds[method] = float(np.median(values))
    first = speeds.get(methods[0])
    rows = [
        [
            method,
            f"{speeds[method]:.1f}" if method in speeds else "–",
            f"{speeds[method] / first:.2f}" if first and method in speeds else "–",
        ]
        for method in methods
    ]
    return _table(["method", "pairs a second", f"as a share of {methods[0]}"], rows)


def _whole(run: Run) -> bool:
    return run.result is not None and "curve" in run.result


def _curve(run: Run) -> Sequence[Mapping[str, float]]:
    assert run.result is not None
    return list(run.result["curve"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
