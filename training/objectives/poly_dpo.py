"""Poly-DPO ("ViPO", arXiv 2604.24953): loss = -log p + alpha (1 - p), p = sigmoid(z).

alpha > 0 for conflicting data (8 is reported for SD1.5), -1 for over-simple pairs, 0 is plain DPO.
By z the slope is -(1 - p)(1 + alpha p): at alpha 8 five times Diffusion-DPO's at z = 0 and up to
2.5 times its greatest, so compare at matched gradient norm.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor, sigmoid
from torch.nn.functional import logsigmoid

from training.objectives.base import Mean, PairErrors, PerPair, own_mean, plain


class Settings(BaseModel):
    """Keys of a recipe's `objective`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["poly_dpo"] = "poly_dpo"
    beta: PositiveFloat
    """Effective: the logit is z = beta * ell."""
    alpha: Annotated[float, Field(ge=-1)]
    """Below -1 the loss would push agreement down where the policy agrees most."""


def loss(
    errors: PairErrors,
    minority: Tensor,  # noqa: ARG001
    settings: Settings,
    mean: Mean = own_mean,  # noqa: ARG001
) -> PerPair:
    """Per-pair loss (B,); `minority` and `mean` are taken for the common call shape."""
    z = settings.beta * errors.ell
    return plain(-logsigmoid(z) + settings.alpha * sigmoid(-z))
