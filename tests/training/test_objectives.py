"""Each objective by hand, the identities between them, and what they refuse.

z = beta * ell, p = sigmoid(z). Errors are in float64 where an identity is to hold to the last bits.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.errors import RecipeError
from toolkit.minority import weight
from training.objectives import OBJECTIVES
from training.objectives.dpo import PairErrors, PairLoss, mean_over, own_mean
from training.recipe import parse_recipe

BETA = 300.0
UNKNOWN = torch.full((64,), math.nan, dtype=torch.float64)


def errors(pairs: int = 64, seed: int = 0) -> PairErrors:
    """z spreads over about -5 to 5."""
    rng = torch.Generator().manual_seed(seed)
    values = [0.1 + 0.01 * torch.rand(pairs, generator=rng, dtype=torch.float64) for _ in range(4)]
    return PairErrors(*values[:2], *(value.requires_grad_() for value in values[2:]))


def scores(seed: int = 1) -> Tensor:
    """A minority score per pair of `errors`, between 0 and 1."""
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(64, generator=rng, dtype=torch.float64)


def by_hand(*four: float) -> PairErrors:
    return PairErrors(*(torch.tensor([v], dtype=torch.float64) for v in four))


def outcome(name: str, batch: PairErrors, u: Tensor | None = None, **settings: Any) -> PairLoss:
    unknown = torch.full_like(batch.ref_chosen, math.nan)
    return OBJECTIVES[name](**settings).loss(batch, unknown if u is None else u)


def loss(name: str, batch: PairErrors, u: Tensor | None = None, **settings: Any) -> Tensor:
    return outcome(name, batch, u, **settings).loss


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


# ell = (.5 - .4) - (.45 - .38) = .03; beta 100: z = 3
THREE = by_hand(0.5, 0.4, 0.45, 0.38)
P = 1 / (1 + math.exp(-3))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("sft", {}, 0.45),
        ("diffusion_dpo", {"beta": 100}, math.log(1 + math.exp(-3))),
        ("ipo", {"tau": 25}, (0.03 - 0.02) ** 2),
        ("cdpo", {"beta": 100, "a": 0.2}, -0.8 * math.log(P) - 0.2 * math.log(1 - P)),
        (
            "robust_dpo",
            {"beta": 100, "a": 0.2},
            (-0.8 * math.log(P) + 0.2 * math.log(1 - P)) / 0.6,
        ),
        ("poly_dpo", {"beta": 100, "alpha": 8}, -math.log(P) + 8 * (1 - P)),
        # e^l - e^w = -.07, times 100, less the margin 1: -8
        ("simpo_margin", {"beta": 100, "gamma": 1}, math.log(1 + math.exp(8))),
        # g = .05 and .02, K = .035: the arguments are 1.5 and -1.5, times y both 1.5
        ("diffusion_kto", {"beta": 100}, 1 - 1 / (1 + math.exp(-1.5))),
    ],
)
def test_each_objective_by_hand(name: str, settings: dict[str, float], expected: float) -> None:
    assert loss(name, THREE, **settings).item() == pytest.approx(expected, rel=1e-9)


def test_dpo_is_ln_2_where_policy_and_reference_agree() -> None:
    agree = errors(5).chosen.detach()
    batch = PairErrors(agree, agree.flip(0), agree, agree.flip(0))
    same(loss("diffusion_dpo", batch, beta=BETA), torch.full_like(agree, math.log(2)))


@pytest.mark.parametrize("a", [0.0, 0.1, 0.3, 0.45])
def test_cdpo_and_robust_dpo_are_dpo_plus_a_line(a: float) -> None:
    batch = errors()
    z, dpo = BETA * batch.ell, loss("diffusion_dpo", batch, beta=BETA)
    assert z.abs().max() < 10  # below robust_dpo's bound
    same(loss("cdpo", batch, beta=BETA, a=a), dpo + a * z)
    same(loss("robust_dpo", batch, beta=BETA, a=a), dpo - z * a / (1 - 2 * a))


def test_without_noise_or_alpha_the_rivals_are_dpo_itself() -> None:
    batch = errors()
    dpo = loss("diffusion_dpo", batch, beta=BETA)
    for name, settings in (
        ("cdpo", {"a": 0}),
        ("robust_dpo", {"a": 0}),
        ("poly_dpo", {"alpha": 0}),
    ):
        assert torch.equal(loss(name, batch, beta=BETA, **settings), dpo), name


def test_poly_of_3_is_symmetric_cross_entropy() -> None:
    """SCE: a CE + b RCE with log 0 := A; RCE = -A (1 - p), so b = .5 and A = -6 give 3 (1 - p)."""
    batch = errors()
    p = torch.sigmoid(BETA * batch.ell)
    same(loss("poly_dpo", batch, beta=BETA, alpha=3), -torch.log(p) + 0.5 * 6 * (1 - p))


def test_exchanging_the_images_negates_ell_bit_for_bit() -> None:
    for dtype in (torch.float32, torch.float64):
        batch = PairErrors(*(e.detach().to(dtype) for e in errors()))
        turned = PairErrors(batch.ref_rejected, batch.ref_chosen, batch.rejected, batch.chosen)
        assert torch.equal(turned.ell, -batch.ell)


def test_adaptive_without_weight_and_margin_is_its_plain_sibling() -> None:
    batch, u = errors(), scores()
    bare = {"weight": "none", "margin": "none"}
    dpo = loss("diffusion_dpo", batch, beta=BETA)
    assert torch.equal(loss("adaptive_dpo", batch, u, beta=BETA, **bare), dpo)
    for form in ("paper", "released"):
        given = loss("adaptive_ipo", batch, u, form=form, tau=30, **bare)
        assert torch.equal(given, loss("ipo", batch, tau=30))


WEIGHTS = ["linear", "square", "sqrt", "sigmoid", "sigmoid_sqrt", "none"]
MARGINS = ["quadratic", "linear", "none"]


@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize("shift", MARGINS)
@pytest.mark.parametrize("c2", ["mean_logit", "mean_ell", 0.3])
def test_the_adaptive_gradient_is_equation_17(form: str, shift: str, c2: str | float) -> None:
    """-beta W sigmoid(-beta ell + Gamma) d ell; d ell is -1 by e_chosen and +1 by e_rejected."""
    batch, u = errors(), scores()
    settings = {"beta": BETA, "weight": form, "margin": shift, "k2": -2.0, "c2": c2}
    found = outcome("adaptive_dpo", batch, u, **settings)
    found.loss.sum().backward()
    factor = -BETA * found.weight * torch.sigmoid(found.margin - BETA * batch.ell.detach())
    same(batch.chosen.grad, -factor)
    same(batch.rejected.grad, factor)


def test_the_variants_of_weight_and_margin_by_hand() -> None:
    """u = .25, k1 = 10, k2 = -2, c2 = .3."""
    expected_w = {
        "linear": 1 / 3.5,
        "square": 1 / 1.625,
        "sqrt": 1 / 6,
        "sigmoid": 1 / (1 + math.exp(2.5)),
        "sigmoid_sqrt": 1 / (1 + math.exp(5)),
        "none": 1.0,
    }
    expected_margin = {"quadratic": 0.3 - 0.125, "linear": 0.3 - 0.5, "none": 0.0}
    u = torch.full((1,), 0.25, dtype=torch.float64)
    for form in WEIGHTS:
        for shift in MARGINS:
            found = outcome(
                "adaptive_dpo",
                THREE,
                u,
                beta=100,
                k1=10,
                k2=-2.0,
                c2=0.3,
                weight=form,
                margin=shift,
            )
            assert found.weight.item() == pytest.approx(expected_w[form])
            assert found.margin.item() == pytest.approx(expected_margin[shift])
            z = 3 - expected_margin[shift]
            assert found.loss.item() == pytest.approx(
                expected_w[form] * math.log(1 + math.exp(-z)), rel=1e-6
            )


def test_adaptive_ipo_in_the_papers_form_subtracts_the_margin() -> None:
    """W (ell - Gamma - 1/(2 tau))^2 with u = .25: W = 1/3.5, Gamma = -2 * .0625 + .3 = .175."""
    u = torch.full((1,), 0.25, dtype=torch.float64)
    found = loss("adaptive_ipo", THREE, u, tau=25, k1=10, k2=-2.0, c2=0.3)
    assert found.item() == pytest.approx((0.03 - 0.175 - 0.02) ** 2 / 3.5, rel=1e-9)


def test_adaptive_ipo_as_released_adds_it() -> None:
    """W (ell - u^2 / beta^2 + mean(ell) / beta - 1 / (2 tau))^2, tau 100."""
    batch, u = errors(), scores()
    beta, tau = 2.0, 100.0  # a small beta, so that the margin weighs something
    found = loss("adaptive_ipo", batch, u, form="released", beta=beta, tau=tau, k1=10)
    ell = batch.ell.detach()
    inside = ell - u**2 / beta**2 + ell.mean() / beta - 1 / (2 * tau)
    same(found.detach(), weight(u, "linear", 10) * inside**2)
    paper = loss("adaptive_ipo", batch, u, form="paper", beta=beta, tau=tau, k1=10)
    assert (found - paper).abs().min() > 1e-7


def test_adaptive_ipos_weight_and_margin_carry_no_gradient() -> None:
    batch, u = errors(), scores()
    found = outcome("adaptive_ipo", batch, u, tau=30, k2=-2.0)
    found.loss.sum().backward()
    slope = 2 * found.weight * (batch.ell.detach() - found.margin - 1 / 60)
    same(batch.chosen.grad, -slope)


def test_an_unknown_score_weighs_one() -> None:
    for name, settings in (("adaptive_dpo", {"beta": BETA}), ("adaptive_ipo", {})):
        found = outcome(name, errors(), UNKNOWN, **settings)
        assert torch.equal(found.weight, torch.ones_like(UNKNOWN))
        assert torch.isfinite(found.loss).all()


def test_c2_follows_the_paper_the_release_or_a_number() -> None:
    batch = errors()
    mean = batch.ell.detach().mean().item()
    for c2, expected in (("mean_logit", BETA * mean), ("mean_ell", mean), (0.25, 0.25)):
        margin = outcome(
            "adaptive_dpo", batch, torch.zeros_like(UNKNOWN), beta=BETA, c2=c2, k2=0.0
        ).margin
        same(margin, torch.full_like(margin, expected))


def test_robust_dpo_is_held_from_its_bound_on() -> None:
    """Without the guard the loss of z = 100 would be 90 a / (1 - 2a) below that of z = 10."""
    far = [by_hand(0.1 * k, 0.0, 0.0, 0.0) for k in (1, 2, 10)]  # z = 10, 20, 100
    at, beyond, far_beyond = (
        loss("robust_dpo", batch, beta=100, a=0.2, bound=10).item() for batch in far
    )
    assert at == pytest.approx(math.log(1 + math.exp(-10)) - 10 / 3)
    assert beyond == pytest.approx(-10 / 3, abs=1e-6)
    assert far_beyond == pytest.approx(-10 / 3, abs=1e-12)
    assert at > beyond > far_beyond - 1e-12


def test_ktos_point_of_reference_is_never_negative_and_spans_the_processes() -> None:
    worse = by_hand(0.1, 0.1, 0.13, 0.12)  # g = -.03 and -.02: K = 0
    expected = (1 / (1 + math.exp(-3)) + 1 / (1 + math.exp(2))) / 2
    assert loss("diffusion_kto", worse, beta=100).item() == pytest.approx(expected, rel=1e-9)
    asked: list[Tensor] = []

    def elsewhere(values: Tensor) -> Tensor:
        """Another process holds pairs with g = .065 on average, so the mean of both is .05."""
        asked.append(values)
        return torch.tensor(0.05, dtype=torch.float64)

    found = OBJECTIVES["diffusion_kto"](beta=100).loss(THREE, UNKNOWN[:1], elsewhere)
    assert asked[0].item() == pytest.approx(0.035)
    expected = (0.5 + 1 / (1 + math.exp(3))) / 2
    assert found.loss.item() == pytest.approx(expected, rel=1e-9)


def test_kto_weighs_liked_and_disliked_images_apart() -> None:
    both = 1 - 1 / (1 + math.exp(-1.5))
    found = loss("diffusion_kto", THREE, beta=100, lam_chosen=3, lam_rejected=1)
    assert found.item() == pytest.approx(2 * both, rel=1e-9)


def test_batch_statistics_use_the_mean_that_is_handed_in() -> None:
    batch, u = errors(), torch.zeros_like(UNKNOWN)
    for name, settings in (("adaptive_dpo", {"beta": BETA}), ("adaptive_ipo", {})):
        found = OBJECTIVES[name](**settings).loss(batch, u, lambda values: own_mean(values) + 0.25)
        same(found.c2, torch.full_like(found.c2, batch.ell.detach().mean().item() + 0.25))


GRADED = {
    "diffusion_dpo": {"beta": BETA},
    "ipo": {},
    "cdpo": {"beta": BETA, "a": 0.2},
    "robust_dpo": {"beta": BETA, "a": 0.2},
    "poly_dpo": {"beta": BETA, "alpha": 8},
    "adaptive_dpo": {"beta": BETA},
    "adaptive_ipo": {"form": "released"},
}
"""Objectives that have a loss for graded labels, with settings."""


def under(name: str, batch: PairErrors, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss under graded labels, and its gradient by the policy's error on the chosen image."""
    found = OBJECTIVES[name](**GRADED[name]).graded_loss(batch, scores(), own_mean, y)
    (slope,) = torch.autograd.grad(found.loss.sum(), batch.chosen)
    return found.loss, slope


def test_graded_labels_are_taken_where_the_loss_is_defined_and_nowhere_else() -> None:
    assert {name for name, kind in OBJECTIVES.items() if not kind.no_graded_labels} == set(GRADED)


@pytest.mark.parametrize("name", GRADED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_full_preference_gives_the_same_bits_as_no_grade(name: str, dtype: torch.dtype) -> None:
    batch = PairErrors(*(e.detach().to(dtype).requires_grad_() for e in errors()))
    full = torch.ones(64, dtype=dtype)
    for mine, plain in zip(under(name, batch, full), under(name, batch, None), strict=True):
        assert torch.equal(mine, plain)


@pytest.mark.parametrize("a", [0.1, 0.3, 0.5])
def test_dpo_under_a_graded_label_is_cdpo(a: float) -> None:
    batch = errors()
    dpo, _ = under("diffusion_dpo", batch, torch.full_like(batch.ell, 1 - a))
    z = BETA * batch.ell
    same(dpo, -(1 - a) * torch.nn.functional.logsigmoid(z) - a * torch.nn.functional.logsigmoid(-z))
    if a < 0.5:
        same(dpo, loss("cdpo", batch, beta=BETA, a=a))


def test_a_graded_loss_by_hand() -> None:
    """z = 3, y = .7; ell = .03, tau 25; W = 1 / (1 + 10 * .5) and Gamma = .1 on both sides."""
    y, nothing = torch.tensor([0.7], dtype=torch.float64), UNKNOWN[:1]
    poly = OBJECTIVES["poly_dpo"](beta=100, alpha=2).graded_loss(THREE, nothing, own_mean, y)
    expected = 0.7 * (-math.log(P) + 2 * (1 - P)) + 0.3 * (-math.log(1 - P) + 2 * P)
    assert poly.loss.item() == pytest.approx(expected, rel=1e-9)
    ipo = OBJECTIVES["ipo"](tau=25).graded_loss(THREE, nothing, own_mean, y)
    assert ipo.loss.item() == pytest.approx(0.7 * 0.01**2 + 0.3 * 0.05**2, rel=1e-9)
    u = torch.tensor([0.5], dtype=torch.float64)
    adaptive = OBJECTIVES["adaptive_dpo"](beta=100, k2=0.0, c2=0.1)
    found = adaptive.graded_loss(THREE, u, own_mean, y)
    sides = 0.7 * math.log(1 + math.exp(-2.9)) + 0.3 * math.log(1 + math.exp(3.1))
    assert found.loss.item() == pytest.approx(sides / 6, rel=1e-9)
    assert (found.weight.item(), found.margin.item()) == (pytest.approx(1 / 6), 0.1)


@pytest.mark.parametrize("name", GRADED)
def test_exchanging_the_images_and_the_grade_changes_nothing_but_the_side(name: str) -> None:
    """Without weight and margin, the loss of y is that of 1 - y on exchanged images."""
    settings = GRADED[name] | ({"weight": "none", "margin": "none"} if "adaptive" in name else {})
    batch, objective = errors(), OBJECTIVES[name](**settings)
    y = torch.linspace(0.5, 1, 64, dtype=torch.float64)
    turned = PairErrors(batch.ref_rejected, batch.ref_chosen, batch.rejected, batch.chosen)
    mine = objective.graded_loss(batch, UNKNOWN, own_mean, y).loss
    same(mine, objective.graded_loss(turned, UNKNOWN, own_mean, 1 - y).loss)


def test_one_process_needs_no_call_to_know_its_mean() -> None:
    class Alone:
        num_processes = 1

    assert mean_over(Alone()) is own_mean


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        ({"name": "poly_dpo", "beta": 1, "alpha": -1.01}, "objective.alpha: .*-1, found -1.01"),
        ({"name": "robust_dpo", "beta": 1, "a": 0.5}, r"objective.a: .*less than 0.5, found 0.5"),
        ({"name": "robust_dpo", "beta": 1, "a": -0.1}, r"objective.a: .*equal to 0, found -0.1"),
        ({"name": "cdpo", "beta": 1, "a": 0.5}, "objective.a"),
        ({"name": "ipo", "tau": 0}, "objective.tau"),
        ({"name": "sft", "beta": 1}, "objective.beta: unknown key"),
        ({"name": "adaptive_ipo", "form": "other"}, "objective.form"),
    ],
)
def test_values_without_a_meaning_are_refused(objective: dict[str, Any], says: str) -> None:
    raw = {"backbone": {"path": "miniature:sd"}, "objective": objective, "steps": 1}
    with pytest.raises(RecipeError, match=says):
        parse_recipe(raw)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_gives_a_finite_gradient_for_wild_errors(name: str) -> None:
    """ell up to 1,000, where a naive log sigmoid is -inf."""
    needed = {"poly_dpo": {"alpha": 8}}.get(name, {})
    if "beta" in OBJECTIVES[name].model_fields:
        needed = {**needed, "beta": BETA}
    batch = PairErrors(*(1000 * (e.detach() - 0.1).requires_grad_() for e in errors()))
    for part in batch:
        part.retain_grad()
    found = loss(name, batch, scores(), **needed)
    assert found.shape == (64,)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert batch.chosen.grad is not None
    assert torch.isfinite(batch.chosen.grad).all()
