"""Encode a recipe's images and prompts ahead of its run, in one process or several."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from toolkit.progress import SILENT, Progress
from toolkit.sharding import Shard
from training.caches import BLOCK, image_bytes, prompt_bytes
from training.devices import accelerator_of
from training.models import Models
from training.pairs import probe_members
from training.recipe import Caches, Recipe
from training.setup import Inputs, prepare_inputs


def precompute(
    recipe: Recipe, *, shard: Shard | None = None, progress: Progress = SILENT
) -> tuple[int, int]:
    """Encode what a recipe's pairs need and the store's caches lack.

    A shard takes every n-th of all images and prompts, whatever is cached already; under
    `accelerate launch` its processes divide them. The size is announced first. After a kill at most
    the part that was being collected is lost.

    Returns:
        How many images and prompts this process encoded.
    """
    recipe = recipe.model_copy(update={"caches": Caches(disk=True, memory_gb=0)})
    # PartialState alone would not notice several processes on CPUs.
    inputs = prepare_inputs(recipe, accelerator=accelerator_of("fp32"))
    state, encoded = inputs.accelerator, inputs.source.encoded
    image_ids, texts = to_encode(inputs)
    images = encoded.missing_images(_share(image_ids, shard))
    prompts = encoded.missing_prompts(_share([*texts, ""], shard))
    state.wait_for_everyone()  # all divide the same list, before anyone shortens it
    progress = progress if state.is_main_process else SILENT
    size = recipe.backbone.resolution
    progress.line(encoding_size(inputs.models, size, len(images), len(prompts)))
    mine = slice(state.process_index, None, state.num_processes)
    _encode(progress, "images", images[mine], encoded.posteriors)
    _encode(progress, "prompts", prompts[mine], encoded.prompts)
    encoded.flush()
    return len(images[mine]), len(prompts[mine])


def _share(names: Sequence[str], shard: Shard | None) -> list[str]:
    """The shard's names, each once; divided by their order among all, which is always the same."""
    unique = dict.fromkeys(names)
    return [name for k, name in enumerate(unique) if shard is None or shard.has(k)]


def to_encode(inputs: Inputs) -> tuple[list[str], list[str]]:
    """Images and prompts of all pairs that a run trains on, and of the held-out ones it measures;
    a name may occur more than once."""
    pairs, section = inputs.pairs, inputs.recipe.held_out
    images, prompts = [*pairs.image_0, *pairs.image_1], list(pairs.prompt)
    if inputs.held_out is not None and section is not None:
        others = inputs.held_out.pairs
        for k in probe_members(section.seed, others.pair_id, section.pairs):
            images += [others.image_0[k], others.image_1[k]]
            prompts.append(others.prompt[k])
    return images, prompts


def encoding_size(
    models: Models, resolution: int, images: int, prompts: int, where: str = "on the store's disk"
) -> str:
    """How much there is to encode and what it will take, in a sentence."""
    size = images * image_bytes(models, resolution) + prompts * prompt_bytes(models)
    return f"{images} images and {prompts} prompts to encode: {size / 1e9:.2f} GB {where}"


def describe_encoding(inputs: Inputs) -> str:
    """What a run has to encode when it first visits its pairs, and where that is kept."""
    encoded, caches = inputs.source.encoded, inputs.recipe.caches
    image_ids, texts = to_encode(inputs)
    images, prompts = encoded.missing_images(image_ids), encoded.missing_prompts(texts)
    where = f"in memory, of {caches.memory_gb:g} GB allowed"
    if caches.disk:
        where = "on the store's disk"
    size = inputs.recipe.backbone.resolution
    where = f"{where}, at the first visit of each pair"
    return encoding_size(inputs.models, size, len(images), len(prompts), where)


def _encode(
    progress: Progress, title: str, names: Sequence[str], encode: Callable[[Sequence[str]], Any]
) -> None:
    for start in range(0, len(names), 4 * BLOCK):
        some = names[start : start + 4 * BLOCK]
        with torch.no_grad():
            encode(some)
        progress.update(title, start + len(some), len(names))
