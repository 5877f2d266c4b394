"""Diffusion-KTO (Li et al. 2024), each image judged by itself, as here each is seen in a pair.

g = e_ref - e_theta per image; K = max(0, mean g over the images of all processes), detached;
loss = lam (1 - sigmoid(y beta (g - K))), y = +1 for a chosen image and -1 for a rejected one. A
pair's loss is the mean of its two images'.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat
from torch import Tensor, sigmoid

from training.objectives.base import Mean, PairErrors, PerPair, own_mean, plain


class Settings(BaseModel):
    """Keys of a recipe's `objective`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["diffusion_kto"] = "diffusion_kto"
    beta: PositiveFloat
    """Multiplies g - K of one image."""
    lam_chosen: PositiveFloat = 1.0
    lam_rejected: PositiveFloat = 1.0


def loss(
    errors: PairErrors,
    minority: Tensor,  # noqa: ARG001
    settings: Settings,
    mean: Mean = own_mean,
) -> PerPair:
    """Per-pair loss (B,); `minority` is taken for the common call shape."""
    chosen = errors.ref_chosen - errors.chosen
    rejected = errors.ref_rejected - errors.rejected
    k = mean((chosen + rejected) / 2).clamp(min=0)
    liked = settings.lam_chosen * sigmoid(-settings.beta * (chosen - k))
    disliked = settings.lam_rejected * sigmoid(settings.beta * (rejected - k))
    return plain((liked + disliked) / 2)
