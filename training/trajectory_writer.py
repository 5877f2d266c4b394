"""From the device to the trajectory: records stay on the device until a log point, then are copied
to the host at once."""

from typing import NamedTuple

import numpy as np
import torch

from toolkit import minority
from toolkit.recorder import TrajectoryWriter
from training.caches import ReferenceErrors
from training.pairs import Pairs
from training.step import Batch, Record

_SCALARS = ("confidence", "stability", "minority", "weight", "margin", "c2", "loss")


class Seen(NamedTuple):
    """What is logged of the rows since the last log point, (rows,) each, float32."""

    loss: np.ndarray
    ell: np.ndarray
    """The policy's."""
    chosen: np.ndarray
    """The policy's error on the chosen image, less the reference's."""
    rejected: np.ndarray
    reference: np.ndarray
    """The reference's error on the chosen image."""
    timestep: np.ndarray


class StepRecorder:
    """Collects records on the device; `drain` passes them to the trajectory's writer thread."""

    def __init__(
        self,
        recorder: TrajectoryWriter,
        pairs: Pairs,
        reference: ReferenceErrors | None = None,
        micro: int = 0,
    ) -> None:
        """`micro`: micro-batches that this rank has recorded before (in a resumed run)."""
        self._recorder = recorder
        self._pairs = pairs
        self._reference = reference
        self._waiting: list[tuple[int, int, Record]] = []
        self._seen: list[np.ndarray] = []
        self._micro = micro

    def add(self, step: int, records: list[Record]) -> None:
        """Add the records of one optimiser step; no copy, no wait for the device."""
        for record in records:
            self._waiting.append((step, self._micro, _light(record)))
            self._micro += 1

    def drain(self) -> None:
        """Pass what is waiting to the writer. Call it before labels change."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._seen.append(self._write(waiting))

    def seen(self) -> Seen:
        """Drain, and return what was recorded since the last call."""
        self.drain()
        seen, self._seen = self._seen, []
        return Seen(*np.concatenate(seen, axis=1)) if seen else Seen(*np.zeros((6, 0), np.float32))

    def flush(self) -> None:
        """Drain, and return once every row is on the disk."""
        self.drain()
        self._recorder.flush()

    def close(self) -> None:
        """Flush and end the writer."""
        self.drain()
        self._recorder.close()

    def probe(self, step: int, number: int, pairs: Pairs, batch: Batch, errors: np.ndarray) -> None:
        """Write a probe's rows: errors (M + 1, 2, B), reference first, chosen and rejected."""
        err_0, err_1 = _by_slot(errors, batch.label.cpu().numpy())
        self._recorder.append(
            kind="probe",
            pair_id=pairs.pair_id[batch.pair.cpu().numpy()].tolist(),
            visit=number,
            draw=batch.draw.cpu().numpy(),
            step=step,
            timestep=batch.timestep.cpu().numpy(),
            captioned=True,
            label=batch.label.cpu().numpy(),
            err_ref_0=err_0[0],
            err_ref_1=err_1[0],
            err_0=err_0[1:],
            err_1=err_1[1:],
        )

    def _write(self, waiting: list[tuple[int, int, Record]]) -> np.ndarray:
        """Join micro-batches on the device, so that each column is copied to the host once."""
        steps, micros, records = zip(*waiting, strict=True)
        batches = [record.batch for record in records]
        sizes = [len(batch.pair) for batch in batches]
        label = _joined([batch.label for batch in batches])
        errors = _joined([record.errors for record in records])
        err_0, err_1 = _by_slot(errors, label)
        scalars = _joined([_scalars(record) for record in records])
        indices = _joined([batch.pair for batch in batches])
        draw = _joined([batch.draw for batch in batches])
        timestep = _joined([batch.timestep for batch in batches])
        if self._reference is not None:
            self._reference.put(indices, draw, np.stack([err_0[0], err_1[0]]))
        self._recorder.append(
            pair_id=self._pairs.pair_id[indices].tolist(),
            visit=_joined([batch.visit for batch in batches]),
            draw=draw,
            step=np.repeat(steps, sizes),
            micro=np.repeat(micros, sizes),
            timestep=timestep,
            captioned=_joined([batch.captioned for batch in batches]),
            err_ref_0=err_0[0],
            err_ref_1=err_1[0],
            err_0=err_0[1:],
            err_1=err_1[1:],
            scale=_joined([record.measured.scale for record in records]),
            label=label,
            verdict_id=[self._pairs.verdict_id[k] for k in indices],
            **dict(zip(_SCALARS, scalars, strict=True)),
        )
        (ref_w, ref_l), (own_w, own_l) = errors[:2]
        ell = minority.ell(ref_w, ref_l, own_w, own_l)
        return np.stack([scalars[-1], ell, own_w - ref_w, own_l - ref_l, ref_w, timestep])


def _joined(parts: list[torch.Tensor]) -> np.ndarray:
    """One host array of several tensors, joined along their last axis, the pairs."""
    return torch.cat(parts, dim=-1).cpu().numpy()


def _scalars(record: Record) -> torch.Tensor:
    """(7, B) in the order of `_SCALARS`."""
    loss = record.loss
    values = [*record.measured.scores, loss.weight, loss.margin, loss.c2, loss.loss]
    return torch.stack([value.float() for value in values])


def _by_slot(errors: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors of image_0 and of image_1, (M + 1, B) each, from (M + 1, 2, B) by role."""
    first = label == 1  # image_0 is the chosen one
    chosen, rejected = errors[:, 0], errors[:, 1]
    return np.where(first, chosen, rejected), np.where(first, rejected, chosen)


def _light(record: Record) -> Record:
    """The record without images and without the step's graph, which would stay in memory."""
    nothing = torch.empty(0)
    batch = record.batch._replace(noisy=nothing, target=nothing, condition=None)
    return record._replace(batch=batch, loss=record.loss._replace(loss=record.loss.loss.detach()))
