"""A weighted blend of label sets, such as the axes that a source judges."""

from typing import Annotated

import numpy as np

from toolkit.errors import InputError
from toolkit.labels.maker import LabelMaker, Made, changes_of, write_changes
from toolkit.preference import Floats, settle, side, values_of
from toolkit.store import Store
from toolkit.store.connection import effective_labels
from toolkit.store.label_sets import ORIGINAL, label_set_recipe


def blend_of_sets(
    store: Store,
    name: str,
    base: str = ORIGINAL,
    *,
    axis: Annotated[
        list[str], "A label set and its weight, SET=WEIGHT (alignment=0.5); repeat it."
    ],
    tie_within: Annotated[float, "A blend at most this far from 0.5 is a tie.", (0, 0.5)] = 0.0,
    decide: Annotated[bool, "Make full preferences: the side that the blend leans to."] = False,
) -> Made:
    """Each pair's mean label over the sets that label it, by their weights.

    A pair that none of them labels has no label. label_weight is the mean of theirs, where known.
    InputError where a weight is no number above 0, StoreError where there is no such set.
    """
    weights = _weights(axis)
    for label_set in weights:
        label_set_recipe(store, label_set)
    ids = effective_labels(store, base)["pair_id"].combine_chunks()
    sets = [effective_labels(store, label_set) for label_set in weights]
    share = list(weights.values())
    label = settle(_mean([values_of(table["label"]) for table in sets], share), tie_within)
    trust = _mean([values_of(table["label_weight"]) for table in sets], share)
    recipe = {"kind": "blend", "weights": weights, "tie_within": tie_within, "decide": decide}
    changes = changes_of(ids, side(label) if decide else label, trust)
    pairs = int((~np.isnan(label)).sum())
    return write_changes(store, name, base, changes, recipe, pairs=pairs)


def _weights(axis: list[str]) -> dict[str, float]:
    """Set -> weight, from SET=WEIGHT."""
    weights: dict[str, float] = {}
    for text in axis:
        name, _, weight = text.rpartition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            weights[name] = np.nan
        if not name or not 0 < weights[name] < np.inf:
            raise InputError(
                f"--axis is {text!r}; write a label set and a weight above 0: alignment=0.5, say."
            )
    if len(weights) < len(axis):
        raise InputError("--axis names a label set twice; give each set one weight.")
    if not weights:
        raise InputError("A blend needs a label set; name each with --axis SET=WEIGHT.")
    return weights


def _mean(columns: list[Floats], weights: list[float]) -> Floats:
    """(P,) the weighted mean over the columns that have a value; NaN where none has."""
    values = np.stack(columns)
    known = ~np.isnan(values) * np.array(weights)[:, None]
    total = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, (np.nan_to_num(values) * known).sum(axis=0) / total, np.nan)


BLEND = LabelMaker("blend", "A weighted mean of label sets, such as axes.", blend_of_sets, "blend")
