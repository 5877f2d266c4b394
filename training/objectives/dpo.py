"""The DPO family: rival losses that differ in one line, each with its settings and source.

Every objective of the product has this shape: a recipe's `objective` is parsed into an `Objective`,
whose `loss` turns the errors of B pairs into B losses. To add one, write its class (here, or in a
file of its own) and name it in `training.objectives.AnyObjective`.

Notation: ell as in Eq. 10, z = beta * ell the logit, p = sigmoid(z) the probability that the model
gives the label, y the label as a preference for the chosen image: 1, or from .5 to 1 where it is
graded. Where a loss is defined for a graded label, it is the expected one over the two labels,

    y * loss(z) + (1 - y) * loss(-z)

which at y = 1 is loss(z) to the bit, and under Diffusion-DPO's loss is cdpo's with a = 1 - y.
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, sigmoid
from torch.nn.functional import logsigmoid

from toolkit.minority import MarginForm, WeightForm, ell, margin, weight

Mean = Callable[[Tensor], Tensor]
"""The mean of a (B,) tensor over the micro-batches of all processes: a scalar without gradient."""


class PairErrors(NamedTuple):
    """Mean squared denoising errors of B pairs on one draw each, float32, (B,)."""

    ref_chosen: Tensor
    ref_rejected: Tensor
    chosen: Tensor
    """The policy's, with gradient."""
    rejected: Tensor
    """The policy's, with gradient."""

    @property
    def ell(self) -> Tensor:
        """l_theta of Eq. 10, (B,): positive where the policy agrees with the label."""
        return ell(self.ref_chosen, self.ref_rejected, self.chosen, self.rejected)


class PairLoss(NamedTuple):
    """What an objective gives, (B,) each; only `loss` carries gradient."""

    loss: Tensor
    weight: Tensor
    """W, 1 in objectives that do not weight pairs."""
    margin: Tensor
    """Gamma, 0 in objectives without a margin."""
    c2: Tensor
    """The offset inside Gamma."""


def plain(loss: Tensor) -> PairLoss:
    """The result of an objective without weight and margin: W = 1, Gamma = 0."""
    zero = torch.zeros_like(loss.detach())
    return PairLoss(loss, torch.ones_like(zero), zero, zero)


def expected(of: Callable[[Tensor], Tensor], z: Tensor, y: Tensor | None) -> Tensor:
    """y * of(z) + (1 - y) * of(-z), (B,); of(z) without y."""
    return of(z) if y is None else y * of(z) + (1 - y) * of(-z)


def own_mean(values: Tensor) -> Tensor:
    """The mean over this process's micro-batch alone."""
    return values.detach().mean()


def mean_over(accelerator: Any) -> Mean:
    """The mean over the micro-batches of all processes, which have one size.

    A collective call: every process must make it equally often.
    """
    if accelerator.num_processes == 1:
        return own_mean

    def mean(values: Tensor) -> Tensor:
        return accelerator.reduce(own_mean(values), "mean")

    return mean


class Objective(BaseModel):
    """The keys of a recipe's `objective`, and the loss that they define."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    no_graded_labels: ClassVar[str] = "its loss is defined for a full preference only"
    """Why the loss is not defined for graded labels, as a clause; empty where it is, and then
    `loss` takes `y`."""

    name: str

    def loss(self, errors: PairErrors, minority: Tensor, mean: Mean = own_mean) -> PairLoss:
        """Per-pair loss, W, Gamma and c2 of B pairs.

        `minority` is u, (B,), NaN where it is not known (then W = 1). `mean` averages over the
        processes, for what spans the batch. Losses of graded labels also take `y`, (B,) or None.
        """
        raise NotImplementedError

    def graded_loss(
        self, errors: PairErrors, minority: Tensor, mean: Mean, y: Tensor | None
    ) -> PairLoss:
        """`loss` under labels of which some are graded; all are full preferences if y is None."""
        if y is None:
            return self.loss(errors, minority, mean)
        return self.loss(errors, minority, mean, y=y)  # type: ignore[call-arg]


class Logistic(Objective):
    """A loss of the logit z alone: subclasses give `of(z)`."""

    no_graded_labels = ""

    beta: PositiveFloat
    """Effective: the logit is z = beta * ell (Diffusion-DPO's own code halves what it is given)."""

    def of(self, z: Tensor) -> Tensor:
        """Loss of the logits z, (B,)."""
        raise NotImplementedError

    def loss(
        self,
        errors: PairErrors,
        minority: Tensor,  # noqa: ARG002
        mean: Mean = own_mean,  # noqa: ARG002
        y: Tensor | None = None,
    ) -> PairLoss:
        """Per-pair loss (B,) of z = beta * ell."""
        return plain(expected(self.of, self.beta * errors.ell, y))


class DiffusionDpo(Logistic):
    """Diffusion-DPO (Wallace et al. 2024): loss = -log p."""

    name: Literal["diffusion_dpo"] = "diffusion_dpo"

    def of(self, z: Tensor) -> Tensor:
        """-log p."""
        return -logsigmoid(z)


class Cdpo(Logistic):
    """Conservative DPO (Mitchell 2023), for labels that are wrong with probability a:
    loss = -(1 - a) log p - a log(1 - p). It equals -log p + a z."""

    name: Literal["cdpo"] = "cdpo"
    a: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """The share of labels taken to be wrong."""

    def of(self, z: Tensor) -> Tensor:
        """-(1 - a) log p - a log(1 - p)."""
        return -(1 - self.a) * logsigmoid(z) - self.a * logsigmoid(-z)


class RobustDpo(Logistic):
    """Robust DPO (Chowdhury et al. 2024), unbiased under labels flipped with probability a:
    loss = (-(1 - a) log p + a log(1 - p)) / (1 - 2a).

    It equals -log p - z a / (1 - 2a). As published, the second term has no lower bound, so agreeing
    more with a pair always pays. Here it is constant beyond z = `bound`, where the loss is -log p
    minus a constant.
    """

    name: Literal["robust_dpo"] = "robust_dpo"
    a: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """The share of labels taken to be flipped; at .5 the loss is not defined."""
    bound: PositiveFloat = 10.0
    """The z from which the unbounded term is constant; sigmoid(10) is .99995."""

    def of(self, z: Tensor) -> Tensor:
        """-log p - min(z, bound) a / (1 - 2a)."""
        return -logsigmoid(z) - self.a / (1 - 2 * self.a) * z.clamp(max=self.bound)


class PolyDpo(Logistic):
    """Poly-DPO ("ViPO", arXiv 2604.24953): loss = -log p + alpha (1 - p).

    alpha > 0 for conflicting data (8 is reported for SD1.5), -1 for over-simple pairs, 0 is
    Diffusion-DPO. The slope by z is -(1 - p)(1 + alpha p): at alpha 8 five times Diffusion-DPO's at
    z = 0 and up to 2.5 times its greatest, so compare at matched gradient norm.
    """

    name: Literal["poly_dpo"] = "poly_dpo"
    alpha: Annotated[float, Field(ge=-1)]
    """Below -1 the loss would push agreement down where the policy agrees most."""

    def of(self, z: Tensor) -> Tensor:
        """-log p + alpha (1 - p)."""
        return -logsigmoid(z) + self.alpha * sigmoid(-z)


class Ipo(Objective):
    """IPO (Azar et al. 2023, "A General Theoretical Paradigm", Eq. 17) on denoising errors:
    loss = (ell - 1 / (2 tau))^2."""

    no_graded_labels = ""

    name: Literal["ipo"] = "ipo"
    tau: PositiveFloat = 100.0
    """ell is drawn towards 1 / (2 tau): .005 by default, on the scale of mean errors. Some papers
    write beta for it."""

    def loss(
        self,
        errors: PairErrors,
        minority: Tensor,  # noqa: ARG002
        mean: Mean = own_mean,  # noqa: ARG002
        y: Tensor | None = None,
    ) -> PairLoss:
        """Per-pair loss (B,)."""
        return plain(expected(lambda ell: (ell - 1 / (2 * self.tau)) ** 2, errors.ell, y))


class AdaptiveDpo(Objective):
    """Adaptive-DPO ("When Preferences Diverge", arXiv 2503.16921, Eq. 14 to 16):
    loss = -W(u) log sigmoid(beta * ell - Gamma(u)).

    W and Gamma depend on the minority score u and have no gradient; under a graded label they are
    those of the side that it leans to.

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


class Simpo(Objective):
    """A margin on the policy's own errors, without a reference:
    loss = -log sigmoid(beta (e^l - e^w) - gamma).

    This project's transfer of SimPO (Meng et al. 2024), a method for text; we know of no paper on
    diffusion models that defines it.
    """

    no_graded_labels = (
        "it asks for the margin gamma on one side, and a graded label has no one side"
    )

    name: Literal["simpo_margin"] = "simpo_margin"
    beta: PositiveFloat
    """Multiplies the difference of the policy's own errors."""
    gamma: NonNegativeFloat = 1.0
    """The wanted margin, in units of the logit."""

    def loss(self, errors: PairErrors, minority: Tensor, mean: Mean = own_mean) -> PairLoss:  # noqa: ARG002
        """Per-pair loss (B,)."""
        return plain(-logsigmoid(self.beta * (errors.rejected - errors.chosen) - self.gamma))


class Sft(Objective):
    """Supervised fine-tuning on the chosen images: loss = e_theta^w."""

    no_graded_labels = "it learns from chosen images alone, and would learn the rejected ones too"

    name: Literal["sft"] = "sft"

    def loss(self, errors: PairErrors, minority: Tensor, mean: Mean = own_mean) -> PairLoss:  # noqa: ARG002
        """Per-pair loss (B,): the error on the chosen image."""
        return plain(errors.chosen)


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
