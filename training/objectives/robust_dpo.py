"""Robust DPO (Chowdhury et al. 2024), unbiased under labels flipped with probability a:
loss = (-(1 - a) log p + a log(1 - p)) / (1 - 2a), p = sigmoid(z). It equals -log p - z a/(1 - 2a).

The second term has no lower bound: a pair that the policy agrees with pays for ever to be agreed
with more. It stops paying at z = `bound`, beyond which the loss is -log p less a constant.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from training.objectives.base import Mean, PairErrors, PerPair, own_mean, plain


class Settings(BaseModel):
    """Keys of a recipe's `objective`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["robust_dpo"] = "robust_dpo"
    beta: PositiveFloat
    """Effective: the logit is z = beta * ell."""
    a: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """The share of labels taken to be flipped; at .5 the loss is not defined."""
    bound: PositiveFloat = 10.0
    """The z from which the unbounded term is held; sigmoid(10) is .99995."""


def loss(
    errors: PairErrors,
    minority: Tensor,  # noqa: ARG001
    settings: Settings,
    mean: Mean = own_mean,  # noqa: ARG001
) -> PerPair:
    """Per-pair loss (B,); `minority` and `mean` are taken for the common call shape."""
    z = settings.beta * errors.ell
    paid = settings.a / (1 - 2 * settings.a) * z.clamp(max=settings.bound)
    return plain(-logsigmoid(z) - paid)
