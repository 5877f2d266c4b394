"""What the rows of a batch say: their labels and votes, checked, and which of them are votes."""

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.ingest.source import Batch
from toolkit.preference import is_label, is_tie, is_weight, values_of
from toolkit.schema import VOTES, conform
from toolkit.store.existing import Statement


def fault(
    prompt: str | None,
    image_0: str,
    image_1: str,
    label: float | None,
    label_weight: float | None = None,
) -> str | None:
    """What is wrong with a row apart from its images, or None. The rules for every source."""
    if prompt is None or not prompt.strip():
        return "the prompt is empty"
    if not image_0 or not image_1:
        return f"the uid of image_{int(bool(image_0))} is empty"
    if label is not None and not 0 <= label <= 1:
        return f"the label is no number from 0 to 1 (it is {label})"
    if label_weight is not None and not 0 <= label_weight < math.inf:
        return f"the label's weight is no number of 0 or more (it is {label_weight})"
    return None


@lru_cache(maxsize=4096)
def _plain(label: float | None) -> Statement:
    return Statement(label)  # one object for the many rows that say the same


def statements_of(batch: Batch) -> list[Statement]:
    """What each row says."""
    labels = batch.rows["label"].to_pylist()
    if not batch.axes:
        return list(map(_plain, labels))
    names = sorted(batch.axes)
    columns = [batch.axes[name]["label"].to_pylist() for name in names]
    return [
        Statement(label, tuple((n, v) for n, v in zip(names, row, strict=True) if v is not None))
        for label, row in zip(labels, zip(*columns, strict=True), strict=True)
    ]


def wrong_axes(batch: Batch) -> dict[int, str]:
    """What is wrong with a row's labels on single axes."""
    wrong: dict[int, str] = {}
    for axis, table in batch.axes.items():
        for row in np.flatnonzero(~is_label(values_of(table["label"]))):
            value = table["label"][row].as_py()
            wrong[int(row)] = f"the label of axis {axis} is no number from 0 to 1 (it is {value})"
    return wrong


def wrong_votes(batch: Batch) -> dict[int, str]:
    """What is wrong with the further votes of a row."""
    if batch.votes is None:
        return {}
    rows = batch.votes["row"].to_numpy()
    choice, weight = (values_of(batch.votes[name]) for name in ("choice", "weight"))
    both = batch.votes["both_are"].is_valid().to_numpy()
    wrong: dict[int, str] = {}
    for bad, values, what in (
        (both & ~is_tie(choice), choice, "a vote for one image calls both good or bad"),
        (
            ~(np.isnan(weight) | is_weight(weight)),
            weight,
            "a vote's weight is no number of 0 or more",
        ),
        (~is_label(choice) | np.isnan(choice), choice, "a vote is no number from 0 to 1"),
    ):
        wrong |= {int(rows[at]): f"{what} (it is {values[at]:g})" for at in np.flatnonzero(bad)}
    return wrong


def rest_on_votes(batch: Batch) -> set[int]:
    """The rows that bring several votes on their label; of others the label is one vote."""
    if batch.votes is None:
        return set()
    rows = batch.votes.filter(pc.is_null(batch.votes["axis"]))["row"].to_numpy()
    return set(np.flatnonzero(np.bincount(rows) > 1).tolist())


def votes_on_axes(batch: Batch, pairs: Mapping[tuple[int, str], str]) -> pa.Table:
    """The votes on single axes of single rows, (row, axis) -> the row's pair_id; schema VOTES."""
    if batch.votes is None or not pairs:
        return VOTES.empty_table()
    keys = zip(batch.votes["row"].to_pylist(), batch.votes["axis"].to_pylist(), strict=True)
    ids = pa.array([pairs.get(key) for key in keys], pa.string())
    return conform(batch.votes.append_column("pair_id", ids).filter(pc.is_valid(ids)), VOTES)


def votes_of(
    batch: Batch, kept: list[int], pair_ids: pa.ChunkedArray, labels_are_votes: bool
) -> pa.Table:
    """The votes on the rows `kept`, whose pairs are `pair_ids`; schema VOTES.

    A label is a vote where its annotator is known, and with `labels_are_votes` also where it rests
    on no votes and has no weight. Further votes come behind.
    """
    rows = batch.rows.take(pa.array(kept, pa.int64()))
    is_vote = pc.is_valid(rows["annotator"])
    single = pc.is_null(rows["label_weight"])
    further = VOTES.empty_table()
    if batch.votes is not None:
        position = np.full(batch.rows.num_rows, -1)
        position[kept] = np.arange(len(kept))
        pair = position[batch.votes["row"].to_numpy()]
        on_kept = batch.votes.filter(pa.array(pair >= 0))
        pair = pair[pair >= 0]
        further = conform(on_kept.append_column("pair_id", pair_ids.take(pa.array(pair))), VOTES)
        on_label = pair[on_kept["axis"].is_null().to_numpy()]
        single = pc.and_(single, pa.array(np.bincount(on_label, minlength=len(kept)) == 0))
    if labels_are_votes:
        is_vote = pc.or_(is_vote, single)
    names = {"annotator": "annotator", "choice": "label", "time": "time"}
    own = pa.table({"pair_id": pair_ids} | {name: rows[of] for name, of in names.items()})
    own = own.filter(pc.and_(is_vote, pc.is_valid(own["choice"])))
    return pa.concat_tables([conform(own, VOTES), further])
