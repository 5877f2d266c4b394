"""Micro-batches: pairs by position, encoded, noised, stacked as [chosen; rejected]."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from toolkit.ids import is_captioned
from training.caches import Encoded, ReferenceErrors
from training.denoising import Condition, add_noise, image_noise, pair_draw, target_of
from training.models import Models, condition_of, sample_latents
from training.pairs import Pairs, positions
from training.recipe import Backbone, Recipe
from training.step import Batch


@dataclass(frozen=True)
class BatchSource:
    """Everything a batch is made from."""

    recipe: Recipe
    pairs: Pairs
    models: Models
    encoded: Encoded
    reference: ReferenceErrors | None
    """Under fixed draws: the reference's errors that are known so far."""


def micro_batches(source: BatchSource, *, rank: int, world: int, start: int = 0) -> Iterator[Batch]:
    """This rank's micro-batches without end, from the `start`-th on.

    Each round of world * batch_size positions is divided into blocks, one a rank, so that the pairs
    of a step do not depend on how many processes share it.
    """
    size = source.recipe.batch_size
    stream = positions(source.recipe.seed, len(source.pairs), start * world * size)
    while True:
        members = [next(stream) for _ in range(world * size)]
        yield make_batch(source, members[rank * size : (rank + 1) * size])


def make_batch(source: BatchSource, members: list[tuple[int, int]]) -> Batch:
    """The batch of (pair index, visit) members, on the UNet's device."""
    recipe = source.recipe
    fixed = recipe.draws.kind == "fixed"
    draws = [visit % recipe.draws.count if fixed else visit for _, visit in members]
    captioned = np.ones(len(members), bool)
    if recipe.caption_dropout:  # one decision a pair and draw, for both its images
        keys = zip([str(source.pairs.pair_id[k]) for k, _ in members], draws, strict=True)
        share = recipe.caption_dropout
        captioned[:] = [is_captioned(recipe.seed, *key, share) for key in keys]
    strata = recipe.draws.count if fixed else 0
    return _batch(source, members, draws, captioned, seed=recipe.seed, strata=strata)


def probe_batch(
    source: BatchSource, indices: list[int], draw: int, *, seed: int, strata: int
) -> Batch:
    """A batch of pairs under one of `strata` fixed draws, the same in every run and at any step.

    Prompts are never emptied here, and the seed is the probe's own, so that runs can be compared.
    """
    draws = [draw] * len(indices)
    members = [(k, 0) for k in indices]
    everyone = np.ones(len(indices), bool)
    return _batch(source, members, draws, everyone, seed=seed, strata=strata, known=False)


def _batch(
    source: BatchSource,
    members: list[tuple[int, int]],
    draws: list[int],
    captioned: np.ndarray,
    *,
    seed: int,
    strata: int,
    known: bool = True,
) -> Batch:
    pairs, models, encoded = source.pairs, source.models, source.encoded
    indices = [k for k, _ in members]
    images = [pairs.chosen(k) for k in indices] + [pairs.rejected(k) for k in indices]
    posterior, time_ids = encoded.posteriors(images)
    device = posterior.device
    shape = (posterior.shape[1] // 2, *posterior.shape[2:])
    sampled = [image_noise(seed, i, d, shape) for i, d in zip(images, draws * 2, strict=True)]
    latents = sample_latents(models, posterior, torch.from_numpy(np.stack(sampled)).to(device))
    drawn = [
        pair_draw(seed, str(pairs.pair_id[k]), draw, shape, models.timesteps, strata)
        for k, draw in zip(indices, draws, strict=True)
    ]
    timestep = torch.tensor([t for t, _ in drawn], device=device)
    noise = torch.from_numpy(np.stack([n for _, n in drawn])).to(device).repeat(2, 1, 1, 1)
    twice = timestep.repeat(2)
    ids = size_ids(source.recipe.backbone, time_ids, [pairs.label[k] == 1 for k in indices])
    label = pairs.label[indices]
    factor = pairs.weight[indices] * ~pairs.dropped[indices]
    reference = None
    if known and source.reference is not None:
        reference = source.reference.known(indices, draws, label)
    return Batch(
        pair=torch.tensor(indices, device=device),
        visit=torch.tensor([visit for _, visit in members], device=device),
        draw=torch.tensor(draws, device=device),
        label=torch.from_numpy(label).to(device),
        preference=(
            torch.from_numpy(pairs.preference[indices]).to(device) if pairs.graded else None
        ),
        factor=torch.from_numpy(factor).to(device),
        captioned=torch.from_numpy(captioned).to(device),
        force_weight_one=torch.from_numpy(
            pairs.force_weight_one[indices] | pairs.weight_is_stored[indices]
        ).to(device),
        reference=None if reference is None else torch.from_numpy(reference).to(device),
        timestep=timestep,
        noisy=add_noise(models.scheduler, latents, noise, twice),
        target=target_of(models.scheduler, latents, noise, twice),
        condition=_condition(source, [pairs.prompt[k] for k in indices], captioned, ids),
    )


def size_ids(section: Backbone, time_ids: torch.Tensor, first: list[bool]) -> torch.Tensor:
    """(R, 6) time ids as `section.time_ids` says, from each image's own.

    `first`: where image_0 is the chosen one, (B,), whose row is then the pair's first.
    """
    if section.time_ids == "image":
        return time_ids
    if section.time_ids == "constant":
        side = section.resolution
        return torch.tensor([side, side, 0, 0, side, side]).to(time_ids).expand_as(time_ids)
    chosen, rejected = time_ids.chunk(2)
    of_image_0 = torch.tensor(first, device=time_ids.device)[:, None]
    return torch.where(of_image_0, chosen, rejected).repeat(2, 1)


def _condition(
    source: BatchSource, prompts: list[str], captioned: np.ndarray, time_ids: torch.Tensor
) -> Condition:
    """What the UNet gets of B pairs, R rows: prompts, or the empty one where they were dropped."""
    texts = [text if kept else "" for text, kept in zip(prompts, captioned, strict=True)]
    states, pooled = source.encoded.prompts(texts)
    zeros = source.recipe.empty_prompt == "pipeline" and not captioned.all()
    if zeros and pooled is not None and source.models.empty_is_zero:
        kept = torch.from_numpy(captioned).to(states)
        states, pooled = states * kept[:, None, None], pooled * kept[:, None]
    return condition_of(
        states.repeat(2, 1, 1), None if pooled is None else pooled.repeat(2, 1), time_ids
    )
