"""Diffusion-KTO: a loss of each image by itself, liked or disliked."""

from typing import Literal

from pydantic import PositiveFloat
from torch import Tensor, sigmoid

from training.objectives.dpo import Mean, Objective, PairErrors, PairLoss, own_mean, plain


class DiffusionKto(Objective):
    """Diffusion-KTO (Li et al. 2024) on the images of pairs.

    g = e_ref - e_theta per image; K = max(0, mean g over the images of all processes), detached;
    loss = lam (1 - sigmoid(y beta (g - K))), y = +1 for a chosen image and -1 for a rejected one. A
    pair's loss is the mean of its two images'.
    """

    no_graded_labels = "it takes each image as liked or disliked, and knows no share between them"

    name: Literal["diffusion_kto"] = "diffusion_kto"
    beta: PositiveFloat
    """Multiplies g - K of one image."""
    lam_chosen: PositiveFloat = 1.0
    """Weight of chosen images."""
    lam_rejected: PositiveFloat = 1.0
    """Weight of rejected images."""

    def loss(self, errors: PairErrors, minority: Tensor, mean: Mean = own_mean) -> PairLoss:  # noqa: ARG002
        """Per-pair loss (B,)."""
        chosen = errors.ref_chosen - errors.chosen
        rejected = errors.ref_rejected - errors.rejected
        k = mean((chosen + rejected) / 2).clamp(min=0)
        liked = self.lam_chosen * sigmoid(-self.beta * (chosen - k))
        disliked = self.lam_rejected * sigmoid(self.beta * (rejected - k))
        return plain((liked + disliked) / 2)
