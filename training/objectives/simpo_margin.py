"""A margin on the errors themselves, without a reference:
loss = -log sigmoid(beta (e^l - e^w) - gamma).

Carried over by this project from SimPO (Meng et al. 2024), a method for text: no paper on diffusion
models stands behind it.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from training.objectives.base import Mean, PairErrors, PerPair, own_mean, plain


class Settings(BaseModel):
    """Keys of a recipe's `objective`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["simpo_margin"] = "simpo_margin"
    beta: PositiveFloat
    """Multiplies the difference of the policy's own errors."""
    gamma: NonNegativeFloat = 1.0
    """The margin wanted, in units of the logit."""


def loss(
    errors: PairErrors,
    minority: Tensor,  # noqa: ARG001
    settings: Settings,
    mean: Mean = own_mean,  # noqa: ARG001
) -> PerPair:
    """Per-pair loss (B,); `minority` and `mean` are taken for the common call shape."""
    return plain(-logsigmoid(settings.beta * (errors.rejected - errors.chosen) - settings.gamma))
