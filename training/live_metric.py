"""The live metric: c, s and u of every pair in a micro-batch, under the recipe's preset.

The maths is in `toolkit.minority`; this is the state that a run keeps for it: the running scale of
`running` and `history`, and the earlier visits that `history` uses as its footprints.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from toolkit.minority import Metric, RunningScale, Scores, batch_scale, score, timestep_bin


class Measured(NamedTuple):
    """Scores (B,) each, and the factor on every model's ell that led to them, (M, B)."""

    scores: Scores
    scale: Tensor


class LiveMetric:
    """Scores pairs; remembers what the preset needs to remember."""

    def __init__(
        self, metric: Metric, *, models: int, pairs: int, timesteps: int, device: Any
    ) -> None:
        self.metric = metric
        self._timesteps = timesteps
        self._models = 1 if metric.preset == "history" else models
        here = torch.zeros(1, device=device)
        self.running = RunningScale.zeros(here, self._models, metric)
        earlier = metric.window - 1 if metric.preset == "history" else 0
        self.earlier = torch.full((earlier, pairs + 1 if earlier else 0), torch.nan, device=device)
        """(window - 1, N + 1): scaled ell of a pair's earlier visits, newest first, as if image_0
        were chosen, since a verdict may flip the label between two visits. The last column belongs
        to no pair."""
        self._sums = (self.running.squares.clone(), self.running.counts.clone())
        self._seen: list[tuple[Tensor, Tensor]] = []

    def measure(
        self,
        ell: Tensor,
        pair: Tensor,
        timestep: Tensor,
        label: Tensor,
        counts: Tensor | None = None,
    ) -> Measured:
        """Score one micro-batch: ell (M, B) float32, pair indices, timesteps and labels (B,).

        `counts`: (B,) bool; rows where it is false have no scores and leave no trace in the scale
        or in a pair's earlier visits. Nothing that a later micro-batch of the same step sees
        changes here.
        """
        if counts is None:
            return self._measure(ell, pair, timestep, label)
        nobody = self.earlier.shape[1] - 1
        measured = self._measure(
            torch.where(counts, ell, 0), torch.where(counts, pair, nobody), timestep, label, counts
        )
        scores = (torch.where(counts, each, torch.nan) for each in measured.scores)
        return Measured(Scores(*scores), measured.scale)

    def _measure(
        self,
        ell: Tensor,
        pair: Tensor,
        timestep: Tensor,
        label: Tensor,
        counts: Tensor | None = None,
    ) -> Measured:
        metric = self.metric
        if metric.preset in ("paper", "released"):
            scale = batch_scale(ell, metric)
            return Measured(score(ell * scale, metric), scale)
        used = ell[: self._models]
        bins = timestep_bin(timestep, metric.timestep_bins, self._timesteps)
        scale = self.running.scale(bins, metric).float()
        counted = bins if counts is None else torch.where(counts, bins, -1)
        squares, seen = self.running.sums(used, counted)
        self._sums = (self._sums[0] + squares, self._sums[1] + seen)
        scaled = used * scale
        if metric.preset == "history":
            side = 2 * label - 1
            self._seen.append((pair, scaled[0] * side))
            scaled = torch.cat([scaled, self.earlier[:, pair] * side])
        unused = torch.full_like(ell[self._models :], torch.nan)
        return Measured(score(scaled, metric), torch.cat([scale, unused]))

    def end_step(self, accelerator: Any) -> None:
        """Take the finished step into memory, the same on every rank."""
        if self.metric.preset in ("paper", "released"):
            return
        squares, counts = (accelerator.reduce(part, "sum") for part in self._sums)
        self.running.update(squares, counts, self.metric)
        self._sums = (torch.zeros_like(squares), torch.zeros_like(counts))
        for pair, scaled in self._seen:
            self._remember(accelerator.gather(pair), accelerator.gather(scaled))
        self._seen = []

    def _remember(self, pair: Tensor, scaled: Tensor) -> None:
        """Push visits, (B,) each, in their order; a pair may come twice where two epochs meet."""
        nobody = self.earlier.shape[1] - 1
        before = (pair[:, None] == pair[None, :]).tril(-1).sum(1)
        for turn in range(-(-len(pair) // nobody) + 1):  # a pair comes at most so often
            spot = torch.where(before == turn, pair, nobody)
            self.earlier[:, spot] = torch.cat([scaled[None], self.earlier[:-1, spot]])

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs for a resumed run to have the same scores."""
        return {
            "squares": self.running.squares,
            "counts": self.running.counts,
            "earlier": self.earlier,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Load a checkpoint's state onto the device of this metric."""
        device = self.earlier.device
        self.running.squares = state["squares"].to(device)
        self.running.counts = state["counts"].to(device)
        self.earlier = state["earlier"].to(device)
