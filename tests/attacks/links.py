"""Random links to views of the desk: numbers, words and columns that no link of its own has."""

import random
from collections.abc import Iterator
from typing import Any

from tests.attacks.conditions import random_conditions, refusal
from toolkit.errors import InputError
from toolkit.store.queue.histograms import draw_map, numbers_of, spread, spread_of
from toolkit.store.queue.tables import QueueColumns
from toolkit.store.queue.views import count, ids, make_view, view_from_query, view_to_query

_WORDS = ("", "square", "\udcff", "\x00", "é🐈", "'", '"', "a" * 300, "%00", "../x", "-1", "null")
_NUMBERS = ("", "0.5", "1e308", "-1e308", "1e309", "1e39", "nan", "inf", "9" * 400, "x", "1e-320")
_COLUMNS = ("minority", "confidence", "nth", "pair_id", "a.b", "\udcff", 'x"; drop', "", "minority")
_STATES = ("any", "open", "judged", "differ", "flip", "FLIP", "\udcff", "")


def random_links(seed: int, number: int) -> Iterator[dict[str, str]]:
    """Parameters of `number` links, the same for the same seed."""
    rng = random.Random(seed)
    conditions = random_conditions(seed, number)
    for where in conditions:
        link = {
            "where": where if rng.random() < 0.2 else "",
            "text": rng.choice(_WORDS),
            "annotator": rng.choice(_WORDS),
            "model": rng.choice(_WORDS),
            "run": rng.choice(("", "", "r", "\udcff", "x" * 300)),
            "order": rng.choice(_COLUMNS),
            "way": rng.choice(("up", "down", "down", "sideways")),
            "state": rng.choice(_STATES),
            "range": ";".join(_range(rng) for _ in range(rng.randrange(3))),
            "pair": rng.choice(_WORDS),
        }
        yield {key: value for key, value in link.items() if value and rng.random() < 0.4}


def _range(rng: random.Random) -> str:
    parts = (rng.choice(_COLUMNS), rng.choice(_NUMBERS), rng.choice(_NUMBERS), "1")
    return ":".join(parts[: rng.choice((3, 3, 3, 3, 2, 4))])


def attack_link(link: dict[str, str], con: Any, columns: QueueColumns) -> str:
    """ "refused" with a sentence, or "passed": everything beside the view was drawn."""
    try:
        view = view_from_query(link)
        make_view(con, columns, view)
    except InputError as problem:
        return refusal(problem)
    assert view_from_query(view_to_query(view)) == view
    assert count(con, view) == len(ids(con, view))
    for column in ("minority", view.order):
        spread_of(con, columns, view, column, spread(con, columns, column))
    names = numbers_of(columns)
    draw_map(con, columns, view, names[0], names[-1])
    return "passed"
