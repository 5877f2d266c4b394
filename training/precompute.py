"""Encode a recipe's images and prompts ahead of its run, in one process or several."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from toolkit.errors import InputError
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

    Images are read in stored order, so that every row group is read once. A shard is a stretch of
    that order, of all images and prompts, whatever is cached already; under `accelerate launch` its
    processes divide them. The size is announced first. After a kill at most the part that was being
    collected is lost.

    Returns:
        How many images and prompts this process encoded.
    """
    recipe = recipe.model_copy(update={"caches": Caches(disk=True, memory_gb=0)})
    # PartialState alone would not notice several processes on CPUs.
    inputs = prepare_inputs(recipe, accelerator=accelerator_of("fp32"))
    state, encoded = inputs.accelerator, inputs.source.encoded
    image_ids, texts = to_encode(inputs)
    image_ids = encoded.images.in_stored_order(list(dict.fromkeys(image_ids)))
    images = encoded.missing_images(_share(image_ids, shard))
    prompts = encoded.missing_prompts(_share([*texts, ""], shard))
    state.wait_for_everyone()  # all divide the same list, before anyone shortens it
    progress = progress if state.is_main_process else SILENT
    size = recipe.backbone.resolution
    progress.line(encoding_size(inputs.models, size, len(images), len(prompts)))
    process = Shard(state.process_index, state.num_processes)
    images, prompts = _share(images, process), _share(prompts, process)
    _encode(progress, "images", images, encoded.posteriors)
    _encode(progress, "prompts", prompts, encoded.prompts)
    encoded.flush()
    return len(images), len(prompts)


def _share(names: Sequence[str], shard: Shard | None) -> list[str]:
    """The shard's stretch of the names, each once; their order is the same in every process."""
    unique = list(dict.fromkeys(names))
    if shard is None:
        return unique
    ends = [len(unique) * k // shard.count for k in (shard.index, shard.index + 1)]
    return unique[slice(*ends)]


def refuse_random_reading(inputs: Inputs) -> None:
    """InputError where a run would read images at random from row groups too large for that."""
    encoded = inputs.source.encoded
    images = encoded.missing_images(to_encode(inputs)[0])
    if (file := encoded.images.reads_page_by_page(images)) is not None:
        raise InputError(
            f"{len(images)} images are not cached, and some are in {file}, whose row groups are so "
            "large that reading it in a random order takes seconds an image. Type `outvoted cache "
            "RECIPE` first, with caches: {disk: true} in the recipe: it reads the file once, in "
            "order. Or ingest with --images copy."
        )


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
