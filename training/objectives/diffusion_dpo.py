"""Diffusion-DPO (Wallace et al. 2024): loss = -log sigmoid(beta * ell)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from training.objectives.base import Mean, PairErrors, PerPair, own_mean, plain


class Settings(BaseModel):
    """Keys of a recipe's `objective`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["diffusion_dpo"] = "diffusion_dpo"
    beta: PositiveFloat
    """Effective: the logit is beta * ell (Diffusion-DPO's own code halves what it is given)."""


def loss(
    errors: PairErrors,
    minority: Tensor,  # noqa: ARG001
    settings: Settings,
    mean: Mean = own_mean,  # noqa: ARG001
) -> PerPair:
    """Per-pair loss (B,); `minority` and `mean` are taken for the common call shape."""
    return plain(-logsigmoid(settings.beta * errors.ell))
