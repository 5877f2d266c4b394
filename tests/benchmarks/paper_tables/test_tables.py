"""What the tables declare: valid recipes, no cell twice, nothing tuned on what is reported."""

import pytest

from tests.benchmarks.paper_tables.cells import Scale, flips, recipe_for
from tests.benchmarks.paper_tables.tables import RATES, SEEDS, TABLES, TUNING_SEED, cells
from tests.factories import StoreFactory

NAMES = ["1", "5", "6", "7", "G"]


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_is_a_valid_recipe_of_its_own_name(name: str, make_store: StoreFactory) -> None:
    store, every = make_store(), list(cells(TABLES[name]))
    assert len({cell.name for cell in every}) == len(every)
    for cell in every:
        if cell.method.choices:
            continue
        recipe = recipe_for(store, cell, cell.method, Scale())
        assert recipe.run == cell.name
        trained = flips(cell.rate, cell.seed)
        assert recipe.labels == (f"vote-{trained}" if cell.method.voters else trained)
        assert recipe.held_out is not None
        assert recipe.held_out.split != recipe.split
        preset = recipe.metric.preset
        assert (preset == "history") == (recipe.footprints == ())


def test_two_tables_share_a_cell_only_where_it_is_the_same_run() -> None:
    seen: dict[str, object] = {}
    for name in NAMES:
        for cell in cells(TABLES[name]):
            assert seen.setdefault(cell.name, cell.method) == cell.method


def test_nothing_is_run_twice_under_two_names(make_store: StoreFactory) -> None:
    store, seen = make_store(), dict[str, str]()
    for name in NAMES:
        for cell in cells(TABLES[name]):
            if not cell.method.choices:
                recipe = recipe_for(store, cell, cell.method, Scale())
                content = recipe.model_copy(update={"run": None}).to_yaml()
                assert seen.setdefault(content, cell.name) == cell.name


def test_the_main_table_holds_what_was_promised() -> None:
    main = TABLES["1"]
    assert all(TABLES[name] is main for name in "238")
    assert [method.name for method in main.methods] == [
        "sft",
        "diffusion_dpo",
        "vote_diffusion_dpo",
        "robust_dpo",
        "poly_dpo",
        "adaptive_released",
        "adaptive_running",
        "adaptive_history",
    ]
    assert main.rates == RATES
    assert sorted(main.rates) == [0.0, 0.1, 0.2, 0.3]
    assert main.rates[:2] == (0.0, 0.2)
    alphas = [c.changes["objective"]["alpha"] for c in main.methods[4].choices]
    assert alphas == [-1, 1, 4, 8]
    assert "world_reward" not in main.methods[2].voters  # the exact reward would be the answer


def test_choices_are_made_on_another_seed_and_before_they_are_needed() -> None:
    assert TUNING_SEED not in SEEDS
    order = list(cells(TABLES["1"]))
    for rate in RATES:
        here = [cell for cell in order if cell.rate == rate]
        poly = [k for k, cell in enumerate(here) if cell.method.name == "poly_dpo"]
        tuning = [k for k, cell in enumerate(here) if cell.method.name.startswith("poly_dpo-")]
        assert len(poly) == 3
        assert len(tuning) == 4
        assert max(tuning) < min(poly)
        assert {here[k].seed for k in tuning} == {TUNING_SEED}
