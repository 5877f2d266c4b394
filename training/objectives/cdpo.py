"""Conservative DPO (Mitchell 2023), labels that are wrong with probability a:
loss = -(1 - a) log p - a log(1 - p), p = sigmoid(z). It equals -log p + a z.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from training.objectives.base import Mean, PairErrors, PerPair, own_mean, plain


class Settings(BaseModel):
    """Keys of a recipe's `objective`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["cdpo"] = "cdpo"
    beta: PositiveFloat
    """Effective: the logit is z = beta * ell."""
    a: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """The share of labels taken to be wrong."""


def loss(
    errors: PairErrors,
    minority: Tensor,  # noqa: ARG001
    settings: Settings,
    mean: Mean = own_mean,  # noqa: ARG001
) -> PerPair:
    """Per-pair loss (B,); `minority` and `mean` are taken for the common call shape."""
    z = settings.beta * errors.ell
    return plain(-(1 - settings.a) * logsigmoid(z) - settings.a * logsigmoid(-z))
