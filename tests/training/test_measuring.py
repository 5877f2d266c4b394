"""What measuring adds to a run, by hand."""

from collections.abc import Callable

from tests.factories import StoreFactory
from training.estimate import Measuring, measurings, met, times_due
from training.noising import epoch_order
from training.pairs import load_pairs
from training.recipe import Recipe


def test_what_is_due_comes_after_every_so_many_steps_and_after_the_last() -> None:
    assert [times_due(4, steps) for steps in (1, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]


def test_the_reference_is_asked_once_where_its_errors_are_kept() -> None:
    """6 pair draws at 5 times: policy and reference each time, or the reference only at first."""
    assert Measuring((0, 1), 3, 5, asks_once=False).passes(1) == 6 * (5 + 5)
    assert Measuring((0, 1), 3, 5, asks_once=True).passes(1) == 6 * (5 + 1)
    assert Measuring((0, 1), 3, 5, asks_once=True).passes(3) == 6 * (15 + 1)


def test_images_that_training_and_measuring_share_are_met_once(
    make_store: StoreFactory, recipe_for: Callable[..., Recipe]
) -> None:
    """40 pairs with images of their own, four to a prompt; all of them are held out, too."""
    store = make_store()
    recipe = recipe_for(store, held_out={}, probe={"pairs": 5})
    pairs = load_pairs(store, labels="original", split="train")
    probe, aside = measurings(recipe, pairs, pairs)
    assert probe is not None
    assert aside is not None
    assert (len(probe.members), len(aside.members)) == (5, 40)
    both = met(recipe, pairs, pairs, 10, (probe, aside))
    assert (both.images, both.prompts) == (80, 10)
    first = {*epoch_order(recipe.seed, 0, 40)[:10].tolist(), *probe.members}
    some = met(recipe, pairs, None, 10, (probe, None))
    assert (some.pairs, some.images) == (len(first), 2 * len(first))
    assert some.prompts == len({pairs.prompt[k] for k in first})
    assert met(recipe, pairs, None, 10, (None, None)).pairs == 10
    assert met(recipe, pairs, None, 100, (None, None)).pairs == 40
