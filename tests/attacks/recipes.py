"""Random recipes: a shipped one in which values are replaced by what no run can use."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from toolkit.errors import RecipeError
from training import recipe as module

_RECIPES = Path(module.__file__).parent / "recipes"
_NEVER = (".inf", "-.inf", ".nan", "1e400", "10000000000000000", "-1", "9" * 5000, "-0.0001")
"""No number of a recipe may be one of these."""
_TEXTS = (
    "2023-02-30",
    "!!python/object:os.system {}",
    "!x y",
    "&a [*a]",
    "{a: b",
    "\x00",
    "~",
    "''",
)
_TEXTS += (
    "0x",
    "1_0",
    "yes",
    "[" * 300,
    "*none",
    "<<: 1",
    "é🐈",
    "'\\ud800'",
    '"\\ud800"',
    "? ",
    "@",
)


def random_recipes(seed: int, number: int) -> Iterator[tuple[str, bool]]:
    """The texts of `number` recipes, and whether a number in it is one of `_NEVER`."""
    rng = random.Random(seed)
    whole = [yaml.safe_load(path.read_text()) for path in sorted(_RECIPES.glob("*.yaml"))]
    for _ in range(number):
        raw, never = copy.deepcopy(rng.choice(whole)), False
        holes: list[str] = []
        for _ in range(rng.randrange(1, 3)):
            place, key = rng.choice(list(_leaves(raw)))
            number_there = isinstance(place[key], int | float) and not isinstance(place[key], bool)
            hole = rng.choice(_NEVER if rng.random() < 0.5 else _TEXTS)
            never |= number_there and hole in _NEVER
            place[key] = f"HOLE{len(holes)}"
            holes.append(hole)
        if rng.random() < 0.2:
            raw[rng.choice(("stepz", "", "seed ", 5, None))] = 1
        text = yaml.safe_dump(raw)
        for k, hole in enumerate(holes):
            text = text.replace(f"HOLE{k}", hole)
        yield text, never


def _leaves(node: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list) and value:
            yield from _leaves(value)
        elif not str(value).startswith("HOLE"):
            yield node, key


def attack_recipe(file: Path, text: str, never: bool) -> str:
    """ "refused" with sentences, "accepted", or SILENT where it has an impossible number."""
    file.write_text(text, encoding="utf-8")
    try:
        module.load_recipe(file)
    except RecipeError as problem:
        str(problem).encode()
        return "refused"
    return "SILENT" if never else "accepted"
