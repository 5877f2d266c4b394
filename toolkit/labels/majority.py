"""The majority of the votes in the store, comparison by comparison."""

from typing import Annotated

from toolkit.errors import InputError
from toolkit.labels.maker import LabelMaker, Made, changes_of, write_changes
from toolkit.preference import label_of, values_of
from toolkit.store import Store
from toolkit.store.connection import connect, fetch
from toolkit.store.label_sets import ORIGINAL


def majority_of_votes(
    store: Store,
    name: str,
    base: str = ORIGINAL,
    *,
    min_votes: Annotated[int, "Votes that a comparison needs.", (1, None)] = 2,
) -> Made:
    """What most votes on a comparison say, whichever way round its pairs show the two images.

    A tie vote counts half for either side, and an even result is a label of 0.5. Comparisons with
    fewer than `min_votes` votes keep the base's label. InputError where none has as many.
    """
    if min_votes < 1:
        raise InputError(f"--min-votes is {min_votes}; it must be 1 or more.")
    with connect(store) as con:
        rows = fetch(
            con,
            """
            WITH turned AS (
                SELECT p.comparison_id,
                    (v.choice - 0.5) * CASE WHEN p.image_0 <= p.image_1 THEN 1 ELSE -1 END AS lean
                FROM votes v JOIN pairs p USING (pair_id)
                WHERE v.choice IS NOT NULL
            ), tally AS (
                SELECT comparison_id, sum(lean) AS lean
                FROM turned GROUP BY comparison_id HAVING count(*) >= ?
            )
            SELECT p.pair_id,
                t.lean * CASE WHEN p.image_0 <= p.image_1 THEN 1 ELSE -1 END AS lean
            FROM pairs p JOIN tally t USING (comparison_id)
            """,
            min_votes,
        )
    if not rows.num_rows:
        raise InputError(
            f"No pair of {store.root} has {min_votes} votes; add some with `outvoted ingest votes`,"
            " or lower --min-votes."
        )
    changes = changes_of(rows["pair_id"].combine_chunks(), label_of(values_of(rows["lean"])))
    recipe = {"kind": "majority", "min_votes": min_votes}
    return write_changes(store, name, base, changes, recipe)


MAJORITY = LabelMaker(
    "majority",
    "What most votes on the same two images say.",
    majority_of_votes,
    "majority",
)
