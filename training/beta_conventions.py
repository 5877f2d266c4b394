"""What a run's beta and learning rate are in other trainers' terms, and how steep its loss is.

Public trainers write the same loss in two ways: Diffusion-DPO's own code and the diffusers SDXL
script form the logit as beta / 2 * ell, the diffusers SD1.5 script and this project as beta * ell.
"""

from dataclasses import dataclass

import torch

from training.objectives.dpo import Objective, PairErrors
from training.recipe import Recipe

RATE_PER_PAIR = 1e-8
"""Diffusion-DPO's learning rate per pair of an optimiser step (2.05e-5 at 2,048)."""


@dataclass(frozen=True)
class Rate:
    """A learning rate, and the number of pairs that one optimiser step averages over."""

    learning_rate: float
    pairs_per_step: int

    @property
    def per_pair(self) -> float:
        """The effective rate of one pair, before the optimiser's own scaling."""
        return self.learning_rate / self.pairs_per_step

    @property
    def times_published(self) -> float:
        """As a multiple of Diffusion-DPO's rate at this number of pairs."""
        return self.per_pair / RATE_PER_PAIR


def other_beta(beta: float) -> float:
    """The value to type where the logit is beta / 2 * ell, for an effective `beta`."""
    return 2 * beta


def slope_at_start(settings: Objective) -> float:
    """-d loss / d ell of one pair where policy and reference agree and u is not known.

    beta / 2 for Diffusion-DPO, beta (1 + alpha / 2) / 2 for Poly-DPO. Compare runs whose slopes
    differ at matched gradient norm, or under an optimiser that ignores the scale. For `sft` and
    `simpo_margin`, which have no reference, it is the slope by the chosen image's error.
    """
    start = [torch.tensor([0.1], dtype=torch.float64) for _ in range(4)]
    chosen = start[2].requires_grad_()
    errors = PairErrors(start[0], start[1], chosen, start[3])
    unknown = torch.full((1,), torch.nan, dtype=torch.float64)
    settings.loss(errors, unknown).loss.sum().backward()
    assert chosen.grad is not None
    return float(chosen.grad)


def describe_betas(recipe: Recipe, pairs_per_step: int) -> list[str]:
    """Lines about a run's loss, beta and learning rate, to show before its first step."""
    settings = recipe.objective
    rate = Rate(recipe.optimiser.learning_rate, pairs_per_step)
    lines = [
        f"objective {settings.name}, slope {slope_at_start(settings):g} by ell at the start",
        f"learning rate {rate.learning_rate:g} over {pairs_per_step} pairs a step: effectively "
        f"{rate.per_pair:.3g} a pair, {rate.times_published:.3g} times Diffusion-DPO's "
        f"{RATE_PER_PAIR:g} (which is for full fine-tuning; adapters take more)",
    ]
    beta = getattr(settings, "beta", None)
    if beta is not None and settings.name != "adaptive_ipo":
        lines.insert(
            1,
            f"beta {beta:g} multiplies ell (as in the diffusers SD1.5 script); Diffusion-DPO's own "
            f"code and the diffusers SDXL script write {other_beta(beta):g} for the same",
        )
    if settings.name == "robust_dpo":
        lines.append(
            f"robust_dpo has no lower bound: its linear term is constant from beta * ell = "
            f"{settings.bound:g} on"
        )
    return lines
