"""A run recorded from anybody's training loop: run.json, then one row a pair and visit.

    with record(store, "mine", models=["policy"]) as recorder:
        for step, batch in enumerate(loader):
            ...
            recorder.append(
                pair_id=ids, step=step, timestep=t,
                err_chosen=e_w, err_rejected=e_l,              # the policy's, (B,)
                err_ref_chosen=r_w, err_ref_rejected=r_l,      # the reference's, (B,)
            )

An error is the mean squared error of one image's denoising target: averaged over channels, height
and width, in float32, before it is multiplied by beta. `outvoted analyze` and the desk then open
the run like any other.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from toolkit.errors import InputError, StoreError
from toolkit.minority import PRESETS
from toolkit.preference import is_decided, lean, side
from toolkit.recorder import TrajectoryWriter
from toolkit.store.connection import effective_labels
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.layout import Store
from toolkit.store.runs import start_run, update_run

_ROLES = ("err_chosen", "err_rejected", "err_ref_chosen", "err_ref_rejected")
_SLOTS = ("err_0", "err_1", "err_ref_0", "err_ref_1")


class RunRecorder:
    """Adds rows to one run; made by `record`."""

    def __init__(self, store: Store, run: str, models: Sequence[str], labels: str, rank: int):
        self._models = list(models)
        self._writer = TrajectoryWriter(store.run(run), models, rank=rank)
        known = effective_labels(store, labels)
        self._labels = dict(
            zip(known["pair_id"].to_pylist(), known["label"].to_pylist(), strict=True)
        )
        self._set = labels
        self._visits: Counter[str] = Counter()
        self._calls = 0
        self.steps = 0
        """Optimiser steps recorded so far."""

    def append(self, *, pair_id: Sequence[str], step: int, timestep: Any, **columns: Any) -> None:
        """Record one micro-batch of B pairs; arrays and torch tensors alike.

        `timestep`: (B,) of the noise schedule. Errors are given by role, `err_chosen` and
        `err_rejected` (B,) or (M, B) with `err_ref_chosen` and `err_ref_rejected` (B,), or by
        image, `err_0`, `err_1`, `err_ref_0` and `err_ref_1`. Everything else in
        `toolkit.recorder.TRAJECTORY` is optional; `visit` is counted and `label` looked up in the
        run's label set unless given. InputError says what does not fit.
        """
        ids = [str(name) for name in pair_id]
        columns = {name: _array(value) for name, value in columns.items()}
        columns.setdefault("label", self._label(ids))
        errors = self._by_slot(columns, ids)
        if "visit" not in columns:
            columns["visit"] = self._visit(ids)
        columns.setdefault("draw", columns["visit"])
        columns.setdefault("micro", self._calls)
        self._writer.append(
            pair_id=ids, step=step, timestep=_array(timestep).astype(np.int32), **columns, **errors
        )
        self._calls += 1
        self.steps = max(self.steps, step + 1)

    def close(self) -> None:
        """Return once every row is on the disk."""
        self._writer.close()

    def _label(self, ids: list[str]) -> np.ndarray:
        unknown = next((name for name in ids if name not in self._labels), None)
        if unknown is not None:
            raise InputError(
                f"The store has no pair {unknown!r}; pass pair_id as `store.pairs()` lists them."
            )
        return side([self._labels[name] for name in ids])

    def _visit(self, ids: list[str]) -> np.ndarray:
        visits = np.zeros(len(ids), np.int32)
        for k, name in enumerate(ids):
            visits[k] = self._visits[name]
            self._visits[name] += 1
        return visits

    def _by_slot(self, columns: dict[str, Any], ids: list[str]) -> dict[str, np.ndarray]:
        """The four error columns by image, taken out of `columns`: (M, B), (M, B), (B,), (B,)."""
        given = [name for name in (*_ROLES, *_SLOTS) if name in columns]
        errors = {name: columns.pop(name).astype(np.float32) for name in given}
        for name in given:
            if name.startswith("err_ref"):
                continue
            errors[name] = np.atleast_2d(errors[name])
            if errors[name].shape != (len(self._models), len(ids)):
                raise InputError(
                    f"{name} has shape {errors[name].shape} for {len(ids)} pairs and the models "
                    f"{', '.join(self._models)}; give ({len(self._models)}, {len(ids)})."
                )
        if set(given) == set(_SLOTS):
            return errors
        if set(given) != set(_ROLES):
            raise InputError(
                f"append() was given {', '.join(given) or 'no errors'}; give all of "
                f"{', '.join(_ROLES)}, or all of {', '.join(_SLOTS)}."
            )
        label = np.broadcast_to(columns["label"], len(ids))
        if len(neither := np.flatnonzero(~is_decided(label))):
            raise InputError(
                f"Label set {self._set!r} has no chosen image for pair {ids[neither[0]]!r}; leave "
                f"the pair out, or give its errors by image ({', '.join(_SLOTS)})."
            )
        first = lean(label) > 0
        w, x, rw, rx = (errors[name] for name in _ROLES)
        slots = (np.where(first, w, x), np.where(first, x, w))
        references = (np.where(first, rw, rx), np.where(first, rx, rw))
        return dict(zip(_SLOTS, (*slots, *references), strict=True))


def _array(value: Any) -> Any:
    """A numpy array of anything array-like; a torch tensor of any device and number format."""
    if hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy()
    return value if isinstance(value, str) or value is None else np.asarray(value)


@contextmanager
def record(
    store: Store,
    run: str,
    *,
    models: Sequence[str] = ("policy",),
    labels: str = ORIGINAL,
    beta: float | None = None,
    preset: str | None = None,
    timesteps: int = 1000,
    rank: int = 0,
    about: dict[str, Any] | None = None,
) -> Iterator[RunRecorder]:
    """Record a run of your own training loop; the run is finished when the block ends.

    `models`: names of the M models in the order of each row's errors, the policy first.
    `labels`: the label set trained on. `beta`: effective beta (the logit is beta * ell), needed
    only for what speaks of probabilities. `preset`: of the metric; `history` by default with one
    model, `running` with several. `timesteps`: of the noise schedule. `rank`: this process, where
    several record one run; process 0 makes it. StoreError where the run exists; InputError where
    a name is unknown. An exception in the block leaves the run unfinished, with its rows.
    """
    preset = preset or ("history" if len(models) == 1 else "running")
    if preset not in PRESETS:
        raise InputError(f"There is no preset {preset!r}; choose one of {', '.join(PRESETS)}.")
    if not models or len(set(models)) != len(models):
        raise InputError(
            f"models is {list(models)}; name each of the models once, the policy first."
        )
    if rank == 0:
        facts: dict[str, Any] = {
            "models": list(models),
            "labels": labels,
            "metric": {"preset": preset},
            "train_timesteps": timesteps,
            "recorded_by": "toolkit.store.record",
            **({} if beta is None else {"objective": {"beta": beta}}),
            **(about or {}),
        }
        start_run(store, run, facts, "")
    recorder = RunRecorder(store, run, models, labels, rank)
    try:
        yield recorder
    except BaseException:
        recorder.close()
        if rank == 0:
            update_run(store, run, steps=recorder.steps, finished=False)
        raise
    recorder.close()
    if not recorder.steps:
        raise StoreError(f"Run {run!r} recorded no rows; call recorder.append(...) in the block.")
    if rank == 0:
        update_run(store, run, steps=recorder.steps, planned_steps=recorder.steps, finished=True)
