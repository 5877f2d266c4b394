"""The objectives: one loss a file, the same call shape, per-pair values out.

`OBJECTIVES` maps a recipe's `objective.name` to its module, which offers `Settings` (the recipe's
keys) and `loss(errors, minority, settings, mean) -> PerPair`. `mean` averages over the processes,
for what spans the batch. To add one, write its file and its two entries.
"""

from types import ModuleType
from typing import Annotated

from pydantic import Field

from training.objectives import (
    adaptive_dpo,
    adaptive_ipo,
    cdpo,
    diffusion_dpo,
    diffusion_kto,
    ipo,
    poly_dpo,
    robust_dpo,
    sft,
    simpo_margin,
)

OBJECTIVES: dict[str, ModuleType] = {
    "sft": sft,
    "diffusion_dpo": diffusion_dpo,
    "ipo": ipo,
    "cdpo": cdpo,
    "robust_dpo": robust_dpo,
    "poly_dpo": poly_dpo,
    "adaptive_dpo": adaptive_dpo,
    "adaptive_ipo": adaptive_ipo,
    "simpo_margin": simpo_margin,
    "diffusion_kto": diffusion_kto,
}

AnyObjective = Annotated[
    sft.Settings
    | diffusion_dpo.Settings
    | ipo.Settings
    | cdpo.Settings
    | robust_dpo.Settings
    | poly_dpo.Settings
    | adaptive_dpo.Settings
    | adaptive_ipo.Settings
    | simpo_margin.Settings
    | diffusion_kto.Settings,
    Field(discriminator="name"),
]
