"""IPO (Azar et al. 2023, "A General Theoretical Paradigm", Eq. 17) on denoising errors:
loss = (ell - 1 / (2 tau))^2.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat
from torch import Tensor

from training.objectives.base import Mean, PairErrors, PerPair, own_mean, plain


class Settings(BaseModel):
    """Keys of a recipe's `objective`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["ipo"] = "ipo"
    tau: PositiveFloat = 100.0
    """ell is drawn towards 1 / (2 tau): .005 by default, on the scale of mean errors. Some write
    beta for it."""


def loss(
    errors: PairErrors,
    minority: Tensor,  # noqa: ARG001
    settings: Settings,
    mean: Mean = own_mean,  # noqa: ARG001
) -> PerPair:
    """Per-pair loss (B,); `minority` and `mean` are taken for the common call shape."""
    return plain((errors.ell - 1 / (2 * settings.tau)) ** 2)
