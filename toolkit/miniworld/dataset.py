"""The mini world as a store, with its truth in a table outside of it."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.files.atomic import write_whole
from toolkit.ingest import SourceImage, SourceRow, Summary, ingest_rows
from toolkit.miniworld.world import STANDARD, TRUTH_SCHEMA, World, each, oracle
from toolkit.progress import SILENT, Progress
from toolkit.store import Store
from toolkit.store.connection import effective_labels, read_pairs
from toolkit.store.label_sets import write_label_set

SOURCE = "miniworld"


def ingest_world(
    store: Store,
    truth: Path,
    *,
    world: World = STANDARD,
    pairs: int = 2000,
    seed: int = 0,
    split: str = "train",
    progress: Progress = SILENT,
) -> Summary:
    """Draw a world's pairs into the store and write its truth table to `truth`, outside of it.

    Drawing the same world again changes nothing.
    """
    known: list[dict[str, object]] = []

    def rows() -> Iterator[SourceRow]:
        for record, row in each(world, pairs, seed):
            known.append(row)
            yield SourceRow(
                prompt=record.prompt,
                image_0=SourceImage(record.image_0_uid, record.image_0),
                image_1=SourceImage(record.image_1_uid, record.image_1),
                label=float(record.label),
                split=split,
                annotator=record.annotator,
                extra={"model_0": record.model_0, "model_1": record.model_1},
                distinguishing=(record.annotator,),
            )

    summary = ingest_rows(store, SOURCE, rows(), progress=progress, total=pairs)
    write_whole(truth, pa.Table.from_pylist(known, schema=TRUTH_SCHEMA))
    return summary


def truth_of(store: Store, truth: Path) -> pa.Table:
    """The truth table with the store's pair_id, in the truth's order.

    For judging detectors only: nothing that trains or diagnoses may read it.
    """
    table = pq.read_table(truth)
    known = read_pairs(store, ["pair_id", "image_0", "image_1"])
    key = zip(*(known[name].to_pylist() for name in ("image_0", "image_1")), strict=True)
    ids = dict(zip(key, known["pair_id"].to_pylist(), strict=True))
    images = zip(*(table[name].to_pylist() for name in ("image_0_uid", "image_1_uid")), strict=True)
    return table.add_column(0, "pair_id", pa.array([ids.get(pair) for pair in images]))


def add_true_labels(store: Store, truth: Path, name: str) -> None:
    """A label set in which the pairs of a truth table have the majority's label.

    For held-out pairs, on which a run is judged: training on it would be cheating.
    """
    table = truth_of(store, truth)
    wrong = table.filter(pc.not_equal(table["label"], table["true_label"]))
    overlay = wrong.select(["pair_id", "true_label"]).rename_columns(["pair_id", "label"])
    recipe = {"kind": "true", "source": SOURCE, "pairs": table.num_rows}
    write_label_set(store, name, overlay.sort_by("pair_id"), recipe)


def oracle_scores(store: Store, truth: Path, labels: str) -> dict[str, float]:
    """pair_id -> how strongly the true reward gap speaks against its label (high = suspicious).

    The row that no detector can be expected to pass.
    """
    table = truth_of(store, truth)
    given = effective_labels(store, labels)
    by_id = dict(zip(given["pair_id"].to_pylist(), given["label"].to_pylist(), strict=True))
    ids = table["pair_id"].to_pylist()
    scores = oracle(table, [by_id[pair_id] for pair_id in ids])
    return {pair_id: float(score) for pair_id, score in zip(ids, scores, strict=True)}
