"""What every objective takes and gives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toolkit.minority import gap

Mean = Callable[[Tensor], Tensor]
"""The mean of a (B,) tensor over the micro-batch of every process: a scalar without gradient."""


class PairErrors(NamedTuple):
    """Mean squared denoising errors of B pairs on one draw each, float32, (B,)."""

    ref_chosen: Tensor
    ref_rejected: Tensor
    chosen: Tensor
    """The policy's, with gradient."""
    rejected: Tensor
    """The policy's, with gradient."""

    @property
    def ell(self) -> Tensor:
        """l_theta of Eq. 10, (B,): positive where the policy agrees with the label."""
        return gap(self.ref_chosen, self.ref_rejected, self.chosen, self.rejected)


class PerPair(NamedTuple):
    """An objective's outcome, each (B,); only `loss` carries gradient."""

    loss: Tensor
    weight: Tensor
    margin: Tensor
    c2: Tensor


def plain(loss: Tensor) -> PerPair:
    """The outcome of an objective that neither weighs nor shifts: W = 1, Gamma = 0."""
    zero = torch.zeros_like(loss.detach())
    return PerPair(loss, torch.ones_like(zero), zero, zero)


def own_mean(values: Tensor) -> Tensor:
    """The mean over this process's micro-batch alone."""
    return values.detach().mean()


def mean_over(accelerator: Any) -> Mean:
    """The mean over the micro-batches of all processes, which are of one size.

    A collective call: every process must ask for it equally often.
    """
    if accelerator.num_processes == 1:
        return own_mean

    def mean(values: Tensor) -> Tensor:
        return accelerator.reduce(own_mean(values), "mean")

    return mean
