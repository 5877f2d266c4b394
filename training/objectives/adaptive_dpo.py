"""Adaptive-DPO ("When Preferences Diverge", Eq. 14 to 16).

loss = - W(u) * log sigmoid(beta * ell - Gamma(u)), W and Gamma without gradient.
"""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from toolkit.minority import MarginForm, WeightForm, margin, weight
from training.objectives.base import Mean, PairErrors, PerPair, own_mean


class Settings(BaseModel):
    """Keys of a recipe's `objective`. The paper gives k1 10 (SD1.5) and 1 (SDXL), no k2."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["adaptive_dpo"] = "adaptive_dpo"
    beta: PositiveFloat
    """Effective: the logit is beta * ell."""
    k1: NonNegativeFloat = 10.0
    weight: WeightForm = "linear"
    margin: MarginForm = "quadratic"
    k2: float | None = None
    """Null: -1 / beta, as the authors' release has it."""
    c2: Literal["mean_logit", "mean_ell"] | float = "mean_ell"
    """`mean_logit`: the mean of beta * ell over the micro-batches of all processes (the paper);
    `mean_ell`: of ell (the release, numerically near nothing); or a number. A recipe of preset
    `paper` that names none has `mean_logit`."""


def loss(
    errors: PairErrors, minority: Tensor, settings: Settings, mean: Mean = own_mean
) -> PerPair:
    """Per-pair loss, W, Gamma and c2, each (B,). `minority` is u, NaN where unknown (W = 1)."""
    logit = settings.beta * errors.ell
    with torch.no_grad():
        c2 = _c2(errors.ell, settings, mean)
        k2 = -1 / settings.beta if settings.k2 is None else settings.k2
        w = weight(minority, settings.weight, settings.k1)
        gamma = margin(minority, settings.margin, k2, c2)
    return PerPair(-w * logsigmoid(logit - gamma), w, gamma, c2)


def _c2(ell: Tensor, settings: Settings, mean: Mean) -> Tensor:
    if isinstance(settings.c2, float):
        return torch.full_like(ell, settings.c2)
    centre = mean(ell).expand_as(ell)
    return centre * settings.beta if settings.c2 == "mean_logit" else centre
