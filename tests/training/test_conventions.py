from typing import Any

import pytest

from training.beta_conventions import Rate, describe_betas, other_beta, slope_at_start
from training.objectives import OBJECTIVES
from training.recipe import parse_recipe


def recipe(objective: dict[str, Any], rate: float = 1e-5) -> Any:
    raw = {"backbone": {"path": "miniature:sd"}, "objective": objective, "steps": 1}
    return parse_recipe({**raw, "optimiser": {"learning_rate": rate}})


def test_diffusion_dpos_own_setting_is_the_unit_of_the_rate() -> None:
    """2.05e-5 at 2,048 pairs a step is 1e-8 a pair."""
    assert Rate(2.048e-5, 2048).times_published == pytest.approx(1)
    assert Rate(1e-5, 100).per_pair == pytest.approx(1e-7)
    assert Rate(1e-5, 100).times_published == pytest.approx(10)


def test_5000_elsewhere_is_2500_here() -> None:
    assert other_beta(2500) == 5000


@pytest.mark.parametrize(
    ("name", "settings", "slope"),
    [
        ("diffusion_dpo", {"beta": 300}, 150),
        ("adaptive_dpo", {"beta": 300}, 150),
        ("cdpo", {"beta": 300, "a": 0.2}, 300 * (0.5 - 0.2)),
        ("robust_dpo", {"beta": 300, "a": 0.2}, 300 * (0.5 + 0.2 / 0.6)),
        ("poly_dpo", {"beta": 300, "alpha": 8}, 300 * 0.5 * (1 + 8 * 0.5)),
        ("poly_dpo", {"beta": 300, "alpha": -1}, 75),
        ("ipo", {"tau": 100}, 2 * 0.005),
        ("sft", {}, 1),
        ("diffusion_kto", {"beta": 300}, 300 * 0.25 / 2),
    ],
)
def test_the_slope_at_the_start_by_hand(
    name: str, settings: dict[str, float], slope: float
) -> None:
    assert slope_at_start(OBJECTIVES[name](**settings)) == pytest.approx(slope, rel=1e-6)


def test_a_run_says_its_beta_in_both_conventions_and_its_rate() -> None:
    lines = describe_betas(recipe({"name": "diffusion_dpo", "beta": 2500}, 1.28e-5), 128)
    text = "\n".join(lines)
    assert "beta 2500 multiplies ell" in text
    assert "write 5000 for the same" in text
    assert "1.28e-05 over 128 pairs a step: effectively 1e-07 a pair, 10 times" in text


def test_no_beta_is_spoken_of_where_no_logit_is_formed() -> None:
    for objective in ({"name": "sft"}, {"name": "ipo"}, {"name": "adaptive_ipo"}):
        assert not any("multiplies ell" in line for line in describe_betas(recipe(objective), 8))


def test_robust_dpo_says_where_it_is_held() -> None:
    lines = describe_betas(recipe({"name": "robust_dpo", "beta": 300, "bound": 7}), 8)
    assert "constant from beta * ell = 7 on" in lines[-1]
