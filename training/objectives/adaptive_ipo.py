"""Adaptive-IPO ("When Preferences Diverge", Eq. 24), in the paper's form and in its release's.

paper:     W(u) (ell - Gamma(u) - 1 / (2 tau))^2
released:  W(u) (ell + Gamma(u) / beta - 1 / (2 tau))^2

W and Gamma without gradient. With k2 = -1 / beta and c2 = mean ell the second is what the authors'
code computes: W (ell - u^2 / beta^2 + mean(ell) / beta - 1 / (2 tau))^2, the margin added.
"""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat
from torch import Tensor

from toolkit.minority import MarginForm, WeightForm, margin, weight
from training.objectives.base import Mean, PairErrors, PerPair, own_mean


class Settings(BaseModel):
    """Keys of a recipe's `objective`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["adaptive_ipo"] = "adaptive_ipo"
    form: Literal["paper", "released"] = "paper"
    tau: PositiveFloat = 100.0
    """ell is drawn towards 1 / (2 tau); the paper writes beta for it."""
    beta: PositiveFloat = 1000.0
    """Only k2 = null and the form `released` use it: no logit is formed."""
    k1: NonNegativeFloat = 10.0
    weight: WeightForm = "linear"
    margin: MarginForm = "quadratic"
    k2: float | None = None
    """Null: -1 / beta."""
    c2: Literal["mean_ell"] | float = "mean_ell"
    """The mean of ell over the micro-batches of all processes, or a number."""


def loss(
    errors: PairErrors, minority: Tensor, settings: Settings, mean: Mean = own_mean
) -> PerPair:
    """Per-pair loss, W, the margin that is subtracted from ell, and c2, each (B,).

    `minority` is u, NaN where unknown (W = 1). Under `released` the margin given is -Gamma / beta.
    """
    ell = errors.ell
    with torch.no_grad():
        given = isinstance(settings.c2, float)
        c2 = torch.full_like(ell, settings.c2) if given else mean(ell).expand_as(ell)
        k2 = -1 / settings.beta if settings.k2 is None else settings.k2
        w = weight(minority, settings.weight, settings.k1)
        gamma = margin(minority, settings.margin, k2, c2)
        if settings.form == "released":
            gamma = -gamma / settings.beta
    return PerPair(w * (ell - gamma - 1 / (2 * settings.tau)) ** 2, w, gamma, c2)
