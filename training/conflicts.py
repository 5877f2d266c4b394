"""What a recipe asks for that cannot be had together, as far as the recipe alone tells."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.recipe import Recipe
    from training.sections import Optimiser


def conflicts(recipe: "Recipe") -> list[str]:
    """One line each, by the key to change: found, allowed, what to write instead."""
    found = _of_optimiser(recipe.optimiser)
    if recipe.network.shard:
        found += _of_sharding(recipe)
    if recipe.held_out is not None and recipe.held_out.split == recipe.split:
        found.append(
            f"held_out.split: {recipe.split!r} is the split that is trained on, and held-out pairs "
            "never are; name another one of the store's."
        )
    return found


def _of_optimiser(section: "Optimiser") -> list[str]:
    """What the optimiser would not look at. A default is no wish: resolved recipes spell it out."""
    if section.name != "adafactor":
        return []
    usual = type(section)(name=section.name)
    return [
        f"optimiser.{key}: adafactor has no betas, and it is {getattr(section, key):g}; remove it, "
        "or write `name: adamw`."
        for key in ("beta1", "beta2")
        if getattr(section, key) != getattr(usual, key)
    ]


def _of_sharding(recipe: "Recipe") -> list[str]:
    found = []
    if recipe.backbone.train == "lora":
        found.append(
            "network.shard: divides a network that trains as a whole, and backbone.train is lora; "
            "remove it, since adapters and a frozen network fit each device."
        )
    if recipe.footprints:
        found.append(
            "footprints: each would be one more network to divide, and network.shard keeps none; "
            "write `footprints: []` and metric.preset history."
        )
    if recipe.optimiser.name != "adamw":
        # torch's Adafactor takes norms in place, which its divided tensors refuse.
        found.append(
            f"optimiser.name: {recipe.optimiser.name} cannot be divided by network.shard; write "
            "adamw."
        )
    if recipe.precision == "fp16":
        found.append(
            "precision: fp16 scales its loss in ways that network.shard does not know; write bf16 "
            "or fp32."
        )
    for option in ("channels_last", "compile"):
        if getattr(recipe.network, option):
            found.append(f"network.{option}: cannot be had with network.shard; remove one of them.")
    return found
