"""Per-pair weights of an earlier run's findings: instead of the live ones, or times them."""

import numpy as np

from toolkit.errors import RecipeError
from toolkit.store import Store
from toolkit.store.runs import read_findings
from training.data import Pairs
from training.sections import StoredWeights


def take_stored(store: Store, section: StoredWeights | None, pairs: Pairs) -> None:
    """Put the finding's weights on `pairs` in place; a pair that it does not know keeps 1.

    RecipeError where the column is absent or holds something that is no weight.
    """
    if section is None:
        return
    table = read_findings(store, section.run, section.finding)
    if section.column not in table.column_names:
        raise RecipeError(
            f"weights.column: the finding {section.finding!r} has no column {section.column!r}; "
            f"it has {', '.join(table.column_names)}."
        )
    ids = table["pair_id"].to_pylist()
    values = table[section.column].to_pylist()
    wrong = [v for v in values if v is not None and not (isinstance(v, float | int) and v >= 0)]
    if wrong:
        raise RecipeError(
            f"weights.column: {section.column!r} of finding {section.finding!r} holds "
            f"{wrong[0]!r}; a weight is a number of 0 or more."
        )
    of = dict(zip(ids, values, strict=True))
    found = [of.get(pair) for pair in pairs.pair_id.tolist()]
    pairs.weight[:] = [1.0 if value is None else value for value in found]
    if section.mode == "instead":
        pairs.replaced[:] = np.array([value is not None for value in found])
