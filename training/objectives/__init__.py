"""The objectives by the names that a recipe's `objective.name` takes.

A parsed `objective` computes its own loss (`training.objectives.dpo.Objective`). To add one, write
its class, name it in `AnyObjective`, and test it.
"""

from typing import Annotated, get_args

from pydantic import Field

from training.objectives.dpo import (
    AdaptiveDpo,
    AdaptiveIpo,
    Cdpo,
    DiffusionDpo,
    DiffusionKto,
    Ipo,
    Objective,
    PolyDpo,
    RobustDpo,
    Sft,
    Simpo,
)

AnyObjective = Annotated[
    Sft
    | DiffusionDpo
    | Ipo
    | Cdpo
    | RobustDpo
    | PolyDpo
    | AdaptiveDpo
    | AdaptiveIpo
    | Simpo
    | DiffusionKto,
    Field(discriminator="name"),
]

OBJECTIVES: dict[str, type[Objective]] = {
    kind.model_fields["name"].default: kind for kind in get_args(get_args(AnyObjective)[0])
}
"""objective.name -> its class."""
