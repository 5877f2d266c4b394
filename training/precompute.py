"""Caches filled ahead of a run: by one process or several, stopped and started again at will."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from toolkit.sharding import Shard
from toolkit.store import Store
from training.devices import accelerator_of
from training.latent_cache import BLOCK, Encoded
from training.models import Models, load_models
from training.pairs import Pairs, load_pairs, published, store_of
from training.probe import probe_members
from training.recipe import Recipe


def fill(recipe: Recipe, *, shard: Shard | None = None, console: Any = None) -> tuple[int, int]:
    """Encode what a recipe's pairs need and its store's caches lack; (images, prompts) done here.

    A shard takes every n-th of all images and prompts, whatever the caches hold; its processes
    share it. The size is announced first. A kill loses at most the part that was being gathered.
    """
    store = store_of(recipe)
    state = accelerator_of("fp32")  # PartialState alone would overlook several processes on CPUs
    rulings = published(store) if recipe.verdicts else None
    pairs = load_pairs(store, labels=recipe.labels, split=recipe.split, rulings=rulings)
    image_ids, texts = encodable(recipe, pairs, held_out_of(recipe, store))
    models = load_models(recipe.backbone.path)
    for part in (models.unet, models.vae, *models.text_encoders):
        part.to(state.device)
    encoded = Encoded(store, models, recipe.backbone.resolution, memory_gb=0, disk=True)
    images = encoded.missing_images(_share(image_ids, shard))
    prompts = encoded.missing_prompts(_share([*texts, ""], shard))
    state.wait_for_everyone()  # all deal out the same list, before anyone shortens it
    quiet = console is None or not state.is_main_process
    if not quiet:
        console.print(announced(models, recipe.backbone.resolution, len(images), len(prompts)))
    mine = slice(state.process_index, None, state.num_processes)
    with _progress(console, quiet) as progress:
        _encode(progress, "images", images[mine], encoded.posteriors)
        _encode(progress, "prompts", prompts[mine], encoded.prompts)
    encoded.flush()
    return len(images[mine]), len(prompts[mine])


def _share(names: Sequence[str], shard: Shard | None) -> list[str]:
    """The shard's names, each once; dealt by their order among all, which others do not change."""
    every = dict.fromkeys(names)
    return [name for k, name in enumerate(every) if shard is None or shard.has(k)]


def image_bytes(models: Models, resolution: int) -> int:
    """Bytes of one cached posterior: mean and log-variance in half precision, and time ids."""
    channels, height, width = models.latent_shape(resolution)
    return 2 * channels * height * width * 2 + 6 * 4


def prompt_bytes(models: Models) -> int:
    """Bytes of one cached prompt in half precision."""
    widths = [encoder.config.hidden_size for encoder in models.text_encoders]
    tokens = models.tokenizers[0].model_max_length
    pooled = models.text_encoders[-1].config.projection_dim if models.family == "sdxl" else 0
    return int(2 * (tokens * sum(widths) + pooled))


def announced(
    models: Models,
    resolution: int,
    images: int,
    prompts: int,
    where: str = "on the store's disk",
) -> str:
    """What filling will take there, in a sentence."""
    size = images * image_bytes(models, resolution) + prompts * prompt_bytes(models)
    return f"{images} images and {prompts} prompts to encode: {size / 1e9:.2f} GB {where}"


def announced_for_run(
    encoded: Encoded, recipe: Recipe, models: Models, pairs: Pairs, held_out: Pairs | None
) -> str:
    """What a run will encode as it meets its pairs, and where that goes."""
    image_ids, texts = encodable(recipe, pairs, held_out)
    images, prompts = encoded.missing_images(image_ids), encoded.missing_prompts(texts)
    where = f"in memory, of {recipe.caches.memory_gb:g} GB allowed"
    if recipe.caches.disk:
        where = "on the store's disk"
    size = recipe.backbone.resolution
    return announced(models, size, len(images), len(prompts), f"{where}, as pairs are first met")


def held_out_of(recipe: Recipe, store: Store) -> Pairs | None:
    """The held-out pairs that a recipe names, if it does."""
    aside = recipe.held_out
    return None if aside is None else load_pairs(store, labels=aside.labels, split=aside.split)


def encodable(recipe: Recipe, pairs: Pairs, held_out: Pairs | None) -> tuple[list[str], list[str]]:
    """Images and prompts of all pairs a run trains on, and of the held-out ones it measures."""
    images, prompts = [*pairs.image_0, *pairs.image_1], list(pairs.prompt)
    if held_out is not None and recipe.held_out is not None:
        aside = recipe.held_out
        for k in probe_members(aside.seed, held_out.pair_id, aside.pairs):
            images += [held_out.image_0[k], held_out.image_1[k]]
            prompts.append(held_out.prompt[k])
    return images, prompts


def needed(pairs: Pairs) -> tuple[int, int]:
    """How many images and prompts the pairs have, each counted once."""
    return len({*pairs.image_0, *pairs.image_1}), len(set(pairs.prompt))


def _encode(
    progress: Progress, title: str, names: Sequence[str], encode: Callable[[Sequence[str]], Any]
) -> None:
    task = progress.add_task(title, total=len(names))
    for start in range(0, len(names), 4 * BLOCK):
        some = names[start : start + 4 * BLOCK]
        with torch.no_grad():
            encode(some)
        progress.update(task, advance=len(some))


def _progress(console: Any, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet)
