import pyarrow as pa
import pytest

from tests.benchmarks.paper_tables.page import Drawn, Run, figure, markdown


def scored(values: dict[str, list[float]], name: str = "reward") -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"model": m, "prompt_index": k, "seed": 0, "figure": name, "value": v}
            for m, column in values.items()
            for k, v in enumerate(column)
        ]
    )


def finished(clean: list[float], best: int, speed: float = 10.0, method: str = "a") -> dict:
    curve = [{"step": 10 * (k + 1), "clean": c, "noisy": 0.5} for k, c in enumerate(clean)]
    return {"method": method, "curve": curve, "best_step": best, "pairs_per_second": speed}


def lines(text: str, begins: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"| {begins} ")]


RUNS = [
    Run("a", 0.2, 0, "a-0", finished([0.8, 0.6], best=10)),
    Run("a", 0.2, 1, "a-1", finished([0.9, 0.7], best=10, speed=20.0)),
    Run("b", 0.2, 0, "b-0", finished([0.5, 0.5], best=20, speed=30.0, method="b-alpha4")),
    Run("b", 0.2, 1, "b-1", None),
    Run("c", 0.2, 0, "c-0", {"failed": "The loss became nan before step 3.", "method": "c"}),
    Run("c", 0.2, 1, "c-1", None),
]
REWARD = {
    "pretrained": [1.0, 2.0],
    "a-0/20": [1.5, 2.5],
    "a-1/20": [1.0, 2.0],
    "a-0/10": [3.0, 3.0],
    "a-1/10": [3.0, 3.0],
    "b-0/20": [0.0, 0.0],
}


@pytest.fixture
def page() -> str:
    reward, accuracy = figure(scored(REWARD), "reward"), figure(scored({}, "accuracy"), "accuracy")
    drawn = [Drawn("without guidance", reward, accuracy)]
    return markdown("Title", "Question?", RUNS, drawn, "pretrained", rival="a")


def test_figures_are_pooled_over_seeds_by_hand(page: str) -> None:
    last, best = lines(page, "a")[:2]
    # rewards 1.5 2.5 1 2: gains .5 .5 0 0, two wins and two ties; each prompt has one of each
    gains = "+0.250 (0.250 to 0.250) | +0.50 +0.00 | 0.750"
    assert f"| a | 2/2 | last | 1.750 (1.250 to 2.250) | {gains}" in last
    assert last.endswith("| – | – | 0.650 |")
    gains = "+1.500 (1.000 to 2.000) | +1.50 +1.50 | 1.000"
    assert f"| a | 2/2 | best | 3.000 (3.000 to 3.000) | {gains}" in best
    assert best.endswith("| 0.850 |")


def test_a_method_is_held_against_the_rival_of_the_same_seed(page: str) -> None:
    """b's one run is seed 0, of reward 0; a's seed 0 has 1.5 and 2.5 at its end, 3 at its best."""
    last, best = lines(page, "b (b-alpha4)")
    assert "| over a |" in page
    assert "| -2.000 (-2.500 to -1.500) | – | 0.500 |" in last
    assert "| -3.000 (-3.000 to -3.000) | – | 0.500 |" in best


def test_what_is_missing_or_failed_is_shown_as_such(page: str) -> None:
    assert "3 of 6 cells are there, 1 failed." in page
    assert "Failed: c-0: The loss became nan before step 3." in page
    assert lines(page, "c")[0] == "| c | 0/2 | last | – | – | – | – | – | – | – |"
    assert lines(page, "b (b-alpha4)")[0].startswith("| b (b-alpha4) | 1/2 | last | 0.000")


def test_a_rate_of_which_nothing_was_run_says_so_in_a_line() -> None:
    runs = [*RUNS, *(Run(name, 0.3, seed, "", None) for name in "ab" for seed in (0, 1))]
    text = markdown("T", "Q", runs, [Drawn("in some way", {}, {})], "pretrained")
    assert "3 of 10 cells are there" in text
    assert "## 30% of the labels flipped\n\nNone of the 4 cells was run (a, b).\n\n## " in text
    assert text.count("| pretrained |") == 1


def test_curves_and_speeds_go_by_method(page: str) -> None:
    assert "| method | 10 | 20 |" in page
    assert "| a | 0.850 | 0.650 |" in page
    assert "| c | – | – |" in page
    assert "| a | 15.0 | 1.00 |" in page
    assert "| b | 30.0 | 2.00 |" in page
    assert "| c | – | – |" in lines(page, "c")


def test_a_table_of_nothing_is_still_a_table() -> None:
    runs = [Run("a", 0.0, 0, "a-0", None)]
    text = markdown("T", "Q", runs, [Drawn("in some way", {}, {})], "pretrained")
    assert "0 of 1 cells are there." in text
    assert "| pretrained |  |  | – |" in text
