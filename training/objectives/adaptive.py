"""The adaptive objectives of "When Preferences Diverge" (arXiv 2503.16921), Eq. 14 to 16 and 24.

Pairs are weighted by W(u) and shifted by the margin Gamma(u), both without gradient; u is the
minority score. Under a graded label, W and Gamma are those of the side that the label leans to.
"""

from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from toolkit.minority import MarginForm, WeightForm, margin, weight
from training.objectives.dpo import Mean, Objective, PairErrors, PairLoss, expected, own_mean


class AdaptiveDpo(Objective):
    """Adaptive-DPO (Eq. 14 to 16): loss = -W(u) log sigmoid(beta * ell - Gamma(u)).

    The paper gives k1 10 (SD1.5) and 1 (SDXL), and no k2.
    """

    no_graded_labels = ""

    name: Literal["adaptive_dpo"] = "adaptive_dpo"
    beta: PositiveFloat
    """Effective: the logit is beta * ell."""
    k1: NonNegativeFloat = 10.0
    """Strength of the weight W(u): Eq. 15 has 1 / (1 + k1 u)."""
    weight: WeightForm = "linear"
    """The form of W(u)."""
    margin: MarginForm = "quadratic"
    """The form of Gamma(u)."""
    k2: float | None = None
    """Null: -1 / beta, as in the authors' release."""
    c2: Literal["mean_logit", "mean_ell"] | float = "mean_ell"
    """`mean_logit`: the mean of beta * ell over the micro-batches of all processes (the paper);
    `mean_ell`: of ell (the release, nearly 0); or a number. A recipe of preset `paper` that sets
    none has `mean_logit`."""

    def loss(
        self,
        errors: PairErrors,
        minority: Tensor,
        mean: Mean = own_mean,
        y: Tensor | None = None,
    ) -> PairLoss:
        """Per-pair loss, W, Gamma and c2, (B,) each."""
        logit = self.beta * errors.ell
        with torch.no_grad():
            c2 = self._c2(errors.ell, mean)
            k2 = -1 / self.beta if self.k2 is None else self.k2
            w = weight(minority, self.weight, self.k1)
            gamma = margin(minority, self.margin, k2, c2)
        loss = expected(lambda z: -w * logsigmoid(z - gamma), logit, y)
        return PairLoss(loss, w, gamma, c2)

    def _c2(self, ell: Tensor, mean: Mean) -> Tensor:
        if isinstance(self.c2, float):
            return torch.full_like(ell, self.c2)
        centre = mean(ell).expand_as(ell)
        return centre * self.beta if self.c2 == "mean_logit" else centre


class AdaptiveIpo(Objective):
    """Adaptive-IPO (Eq. 24), in the paper's form and in that of its release.

    paper:     W(u) (ell - Gamma(u) - 1 / (2 tau))^2
    released:  W(u) (ell + Gamma(u) / beta - 1 / (2 tau))^2

    With k2 = -1 / beta and c2 = mean ell the second is what the authors' code computes:
    W (ell - u^2 / beta^2 + mean(ell) / beta - 1 / (2 tau))^2, the margin added.
    """

    no_graded_labels = ""

    name: Literal["adaptive_ipo"] = "adaptive_ipo"
    form: Literal["paper", "released"] = "paper"
    """Which of the two losses above."""
    tau: PositiveFloat = 100.0
    """ell is drawn towards 1 / (2 tau); the paper writes beta for it."""
    beta: PositiveFloat = 1000.0
    """Used by k2 = null and the form `released` only: no logit is formed."""
    k1: NonNegativeFloat = 10.0
    """Strength of the weight W(u): Eq. 15 has 1 / (1 + k1 u)."""
    weight: WeightForm = "linear"
    """The form of W(u)."""
    margin: MarginForm = "quadratic"
    """The form of Gamma(u)."""
    k2: float | None = None
    """Null: -1 / beta."""
    c2: Literal["mean_ell"] | float = "mean_ell"
    """The mean of ell over the micro-batches of all processes, or a number."""

    def loss(
        self,
        errors: PairErrors,
        minority: Tensor,
        mean: Mean = own_mean,
        y: Tensor | None = None,
    ) -> PairLoss:
        """Per-pair loss, W, the margin that is subtracted from ell, and c2, (B,) each.

        Under `released` that margin is -Gamma / beta.
        """
        ell = errors.ell
        with torch.no_grad():
            fixed = isinstance(self.c2, float)
            c2 = torch.full_like(ell, self.c2) if fixed else mean(ell).expand_as(ell)
            k2 = -1 / self.beta if self.k2 is None else self.k2
            w = weight(minority, self.weight, self.k1)
            gamma = margin(minority, self.margin, k2, c2)
            if self.form == "released":
                gamma = -gamma / self.beta
        loss = expected(lambda ell: w * (ell - gamma - 1 / (2 * self.tau)) ** 2, ell, y)
        return PairLoss(loss, w, gamma, c2)
