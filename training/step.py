"""Start reading here. One optimiser step of paired preference training:

    batch -> errors -> ell -> metric -> objective -> backward -> footprints -> record

Shapes: B pairs a micro-batch, R = 2B images as rows [chosen; rejected], M models (the policy and
its footprints). A pair's two images share one timestep and one noise.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toolkit import minority
from training.denoising import Condition, TensorSet, image_errors
from training.ema import Footprint, trainable
from training.fsdp import agreed, local, whole
from training.live_metric import LiveMetric, Measured
from training.noising import policy_seed
from training.objectives.dpo import Objective, PairErrors, PairLoss, mean_over


class Batch(NamedTuple):
    """One micro-batch on the device."""

    pair: Tensor
    """(B,) index into the run's pairs."""
    visit: Tensor
    """(B,) how often each was met before."""
    draw: Tensor
    """(B,) which draw of timestep and noise."""
    label: Tensor
    """(B,) 1 where image_0 is the chosen one."""
    factor: Tensor
    """(B,) on the pair's loss: a stored weight, and 0 where a verdict took the pair out."""
    as_one: Tensor
    """(B,) bool: the live weight W is set to 1."""
    reference: Tensor | None
    """(2, B) the reference's errors where every pair's are cached (chosen, rejected)."""
    timestep: Tensor
    """(B,)"""
    noisy: Tensor
    """(R, C, H, W)"""
    target: Tensor
    """(R, C, H, W) what the network should predict."""
    condition: Condition | None
    """R rows; None once the batch has been used and only its names are kept."""


class Row(NamedTuple):
    """What a micro-batch leaves for the trajectory, on the device; names as of its columns."""

    batch: Batch
    errors: Tensor
    """(M + 1, 2, B): reference first, then each model; chosen and rejected."""
    measured: Measured
    outcome: PairLoss


class Learner(NamedTuple):
    """Everything a step changes or reads."""

    accelerator: Any
    unet: torch.nn.Module
    """As accelerate wrapped it: the policy is read through this."""
    bare: torch.nn.Module
    """The same module unwrapped: reference and footprints are read through this."""
    reference: TensorSet
    footprints: Sequence[Footprint]
    objective: Objective
    metric: LiveMetric
    optimiser: torch.optim.Optimizer
    schedule: Any
    max_grad_norm: float
    grad_norm: float | None
    seed: int
    arrived: Tensor
    """() bool: whether a gradient other than 0 has been met; steps write to it."""
    frozen: torch.nn.Module | None = None
    """The reference as a network of its own, where both are divided (`training.fsdp`)."""


def train_step(
    learner: Learner, micro_batches: Iterator[Batch], count: int, step: int
) -> list[Row]:
    """One optimiser step over `count` micro-batches; the rows they leave."""
    accelerator = learner.accelerator
    rows = []
    for k in range(count):
        batch = next(micro_batches)
        # Just before the policy: what was encoded or cached must not shift its dropout.
        torch.manual_seed(policy_seed(learner.seed, step, k, accelerator.process_index))
        with _synchronised(accelerator, learner.unet, k == count - 1):
            with accelerator.autocast():
                policy = errors_of(learner.unet, batch)
            aside = errors_aside(learner, batch)
            row = judge(learner, batch, policy, aside, step)
            accelerator.backward(row.outcome.loss.mean() / count)
        rows.append(row)
    bound_gradient(learner)
    learner.optimiser.step()
    learner.schedule.step()
    learner.optimiser.zero_grad(set_to_none=True)
    tensors = trainable(learner.bare)
    for footprint in learner.footprints:
        footprint.update(tensors)
    learner.metric.end_step(accelerator)
    return rows


def bound_gradient(learner: Learner) -> None:
    """Clip the gradient, or bring it to `grad_norm`; one of 0 stays as it is. Notes what came."""
    tensors = list(trainable(learner.unet).values())
    bound = learner.max_grad_norm if learner.grad_norm is None else math.inf
    norm = whole(learner.accelerator.clip_grad_norm_(tensors, bound))
    learner.arrived.logical_or_((norm > 0).to(learner.arrived.device))
    if learner.grad_norm is None:
        return
    factor = torch.where(norm > 0, learner.grad_norm / norm, 1)
    for tensor in tensors:
        if tensor.grad is not None:
            local(tensor.grad).mul_(factor.to(tensor.grad.device))


def errors_of(unet: torch.nn.Module, batch: Batch, tensors: TensorSet | None = None) -> Tensor:
    """(2, B): errors on the chosen and the rejected images, float32."""
    assert batch.condition is not None
    timesteps = batch.timestep.repeat(2)
    errors = image_errors(unet, batch.noisy, timesteps, batch.condition, batch.target, tensors)
    return errors.view(2, -1)


@torch.no_grad()
def errors_aside(learner: Learner, batch: Batch) -> list[Tensor]:
    """(2, B) each: the reference's errors, then every footprint's, on the same draw."""
    sets = [footprint.tensors for footprint in learner.footprints]
    with learner.accelerator.autocast(), _without_dropout(learner.bare):
        reference = _reference(learner, batch)
        return [reference, *(errors_of(learner.bare, batch, tensors) for tensors in sets)]


def _reference(learner: Learner, batch: Batch) -> Tensor:
    """(2, B): cached errors where they are known. A divided reference computes with all processes
    or with none, so there the cache serves only where it serves them all."""
    known = batch.reference
    if learner.frozen is None:
        return errors_of(learner.bare, batch, learner.reference) if known is None else known
    if agreed(learner.accelerator, known is not None) and known is not None:
        return known
    return errors_of(learner.frozen, batch)


def judge(learner: Learner, batch: Batch, policy: Tensor, aside: list[Tensor], step: int) -> Row:
    """ell of every model -> c, s, u -> the objective's per-pair loss, weight and margin."""
    reference, *footprints = aside
    errors = torch.stack([reference, policy.detach(), *footprints])
    ell = minority.ell(errors[:1, 0], errors[:1, 1], errors[1:, 0], errors[1:, 1])
    measured = learner.metric.measure(ell, batch.pair, batch.timestep, batch.label)
    u = measured.scores.minority
    # NaN stands for "not known", and then W is 1.
    warming = step < learner.metric.metric.warmup_steps
    u = torch.where(batch.as_one | warming, torch.nan, u)
    pairs = PairErrors(reference[0], reference[1], policy[0], policy[1])
    mean = mean_over(learner.accelerator)
    outcome = learner.objective.loss(pairs, u, mean)
    outcome = outcome._replace(
        loss=outcome.loss * batch.factor, weight=outcome.weight * batch.factor
    )
    return Row(batch, errors, measured, outcome)


@contextlib.contextmanager
def _without_dropout(unet: torch.nn.Module) -> Iterator[None]:
    """Only the policy meets dropout. The network is in training mode only where there is any."""
    if not unet.training:
        yield
        return
    unet.eval()
    try:
        yield
    finally:
        unet.train()


def _synchronised(accelerator: Any, unet: torch.nn.Module, last: bool) -> Any:
    """Gradients cross between processes once a step, with its last micro-batch; those of a divided
    network with each, or they would have to be held whole."""
    return contextlib.nullcontext() if last else accelerator.no_sync(unet)
