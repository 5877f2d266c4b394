"""Supervised fine-tuning on the chosen images: loss = e_theta^w."""

from typing import Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from training.objectives.base import Mean, PairErrors, PerPair, own_mean, plain


class Settings(BaseModel):
    """Keys of a recipe's `objective`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["sft"] = "sft"


def loss(
    errors: PairErrors,
    minority: Tensor,  # noqa: ARG001
    settings: Settings,  # noqa: ARG001
    mean: Mean = own_mean,  # noqa: ARG001
) -> PerPair:
    """Per-pair loss (B,); nothing but the chosen image's error is used."""
    return plain(errors.chosen)
