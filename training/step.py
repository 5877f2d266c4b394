"""Start reading here. One optimiser step of paired preference training:

    batch -> errors -> ell -> metric -> objective -> backward -> footprints -> record

Shapes: B pairs a micro-batch, R = 2B images as rows [chosen; rejected], M models (the policy and
its footprints). A pair's two images share one timestep and one noise.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toolkit import minority
from toolkit.errors import TrainingError
from training.denoising import Condition, TensorSet, image_errors, policy_seed
from training.devices import agreed, local, whole
from training.ema import Footprint, trainable
from training.live_metric import LiveMetric, Measured
from training.lora import without_adapters
from training.objectives.dpo import PairErrors, PairLoss, mean_over
from training.recipe import Recipe


class Batch(NamedTuple):
    """One micro-batch on the device."""

    pair: Tensor
    """(B,) index into the run's pairs."""
    visit: Tensor
    """(B,) how often the run has visited each before."""
    draw: Tensor
    """(B,) which draw of timestep and noise."""
    captioned: Tensor
    """(B,) bool: the prompt was not dropped."""
    label: Tensor
    """(B,) 1 where image_0 is the chosen one."""
    preference: Tensor | None
    """(B,) the label as a preference for the chosen image, .5 to 1; None where the run's labels
    are full preferences."""
    factor: Tensor
    """(B,) multiplies the pair's loss: the stored weight, or 0 if a verdict removed the pair."""
    force_weight_one: Tensor
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
    """R rows; None after training, while the batch waits to be recorded."""


class Record(NamedTuple):
    """What the trajectory records of a micro-batch, still on the device."""

    batch: Batch
    errors: Tensor
    """(M + 1, 2, B): reference first, then each model; chosen and rejected."""
    measured: Measured
    loss: PairLoss


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Everything that a step reads or changes."""

    recipe: Recipe
    accelerator: Any
    policy: torch.nn.Module
    """The network in training. Reference and footprints are read through it."""
    wrapped: torch.nn.Module
    """The same network as accelerate wrapped it, for passes with gradient."""
    reference: TensorSet
    """The policy's trainable tensors as they were at the start."""
    reference_is_base: bool = False
    """The reference is the network without its adapters, which is faster than with those of B = 0
    and gives the same bits."""
    divided_reference: torch.nn.Module | None = None
    """The reference as a network of its own, where both are divided (`training.devices`)."""
    footprints: Sequence[Footprint]
    metric: LiveMetric
    optimiser: torch.optim.Optimizer
    schedule: Any
    """Learning-rate schedule."""
    gradient_seen: Tensor
    """() bool: whether any gradient was not 0; steps write to it."""

    def __post_init__(self) -> None:
        """TrainingError where policy and reference share memory: every ell would stay 0."""
        shared = (
            local(self.reference[name]).data_ptr() == local(tensor).data_ptr()
            for name, tensor in trainable(self.policy).items()
            if name in self.reference and tensor.numel()
        )
        if any(shared):
            raise TrainingError(
                "The policy and its reference are the same tensors, so every ell would stay 0; "
                "take the reference before training starts (`training.ema.snapshot`)."
            )

    @property
    def model_names(self) -> list[str]:
        """Names of the M models, in the order of a row's errors."""
        return ["policy", *(footprint.name for footprint in self.footprints)]

    @property
    def pairs_per_step(self) -> int:
        """Pairs that one optimiser step averages over, all processes together."""
        recipe = self.recipe
        return recipe.batch_size * recipe.accumulation * int(self.accelerator.num_processes)


def train_step(
    learner: Learner, micro_batches: Iterator[Batch], count: int, step: int
) -> list[Record]:
    """One optimiser step over `count` micro-batches; a record of each."""
    accelerator = learner.accelerator
    records = []
    for k in range(count):
        batch = next(micro_batches)
        # Just before the policy: encoding or cached errors must not shift its dropout.
        torch.manual_seed(policy_seed(learner.recipe.seed, step, k, accelerator.process_index))
        with _synchronised(accelerator, learner.wrapped, k == count - 1):
            with accelerator.autocast():
                policy = errors_of(learner.wrapped, batch)
            record = score(learner, batch, policy, frozen_errors(learner, batch), step)
            accelerator.backward(record.loss.loss.mean() / count)
        records.append(record)
    bound_gradient(learner)
    learner.optimiser.step()
    learner.schedule.step()
    learner.optimiser.zero_grad(set_to_none=True)
    tensors = trainable(learner.policy)
    for footprint in learner.footprints:
        footprint.update(tensors)
    learner.metric.end_step(accelerator)
    return records


def bound_gradient(learner: Learner) -> None:
    """Clip the gradient to `max_grad_norm`, or scale it to `grad_norm`; 0 stays 0."""
    section = learner.recipe.optimiser
    tensors = list(trainable(learner.wrapped).values())
    bound = section.max_grad_norm if section.grad_norm is None else math.inf
    norm = whole(learner.accelerator.clip_grad_norm_(tensors, bound))
    learner.gradient_seen.logical_or_((norm > 0).to(learner.gradient_seen.device))
    if section.grad_norm is None:
        return
    factor = torch.where(norm > 0, section.grad_norm / norm, 1)
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
def frozen_errors(learner: Learner, batch: Batch) -> list[Tensor]:
    """(2, B) each: the reference's errors, then every footprint's, on the same draw."""
    sets = [footprint.tensors for footprint in learner.footprints]
    with learner.accelerator.autocast(), _without_dropout(learner.policy):
        reference = _reference_errors(learner, batch)
        return [reference, *(errors_of(learner.policy, batch, tensors) for tensors in sets)]


def _reference_errors(learner: Learner, batch: Batch) -> Tensor:
    """(2, B): from the cache where they are known. A divided reference computes with all processes
    or none, so there the cache is used only where it has the errors of them all."""
    known = batch.reference
    if learner.divided_reference is None:
        if known is not None:
            return known
        if learner.reference_is_base:
            with without_adapters(learner.policy):
                return errors_of(learner.policy, batch)
        return errors_of(learner.policy, batch, learner.reference)
    if agreed(learner.accelerator, known is not None) and known is not None:
        return known
    return errors_of(learner.divided_reference, batch)


def score(
    learner: Learner, batch: Batch, policy: Tensor, frozen: list[Tensor], step: int
) -> Record:
    """ell of every model -> c, s, u -> the objective's per-pair loss, weight and margin."""
    reference, *footprints = frozen
    errors = torch.stack([reference, policy.detach(), *footprints])
    ell = minority.ell(errors[:1, 0], errors[:1, 1], errors[1:, 0], errors[1:, 1])
    drops = learner.recipe.caption_dropout and learner.recipe.dropped_captions == "leave_out"
    counts = batch.captioned if drops else None
    measured = learner.metric.measure(ell, batch.pair, batch.timestep, batch.label, counts)
    u = measured.scores.minority
    # NaN means "not known", and then W is 1.
    warming = step < learner.metric.metric.warmup_steps
    u = torch.where(batch.force_weight_one | warming, torch.nan, u)
    pairs = PairErrors(reference[0], reference[1], policy[0], policy[1])
    mean = mean_over(learner.accelerator)
    loss = learner.recipe.objective.graded_loss(pairs, u, mean, batch.preference)
    loss = loss._replace(loss=loss.loss * batch.factor, weight=loss.weight * batch.factor)
    return Record(batch, errors, measured, loss)


@contextlib.contextmanager
def _without_dropout(unet: torch.nn.Module) -> Iterator[None]:
    """Without dropout, which only the policy's own pass has. A network that has none is in
    evaluation mode already."""
    if not unet.training:
        yield
        return
    unet.eval()
    try:
        yield
    finally:
        unet.train()


def _synchronised(accelerator: Any, unet: torch.nn.Module, last: bool) -> Any:
    """Exchange gradients with a step's last micro-batch only. A divided network exchanges them with
    each: whole gradients would not fit into one process."""
    return contextlib.nullcontext() if last else accelerator.no_sync(unet)
