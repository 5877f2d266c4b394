"""Rows of the pairs table, as decided by the plan, turned into exported ones."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import InputError
from toolkit.export import columns
from toolkit.export.columns import source_column
from toolkit.export.decisions import Floats, Plan
from toolkit.export.further import Further
from toolkit.export.policy import Policy
from toolkit.places import readable
from toolkit.store import Store
from toolkit.store.images import ImageReader
from toolkit.store.pseudonyms import namer

BATCH, WIDE_BATCH = 100, 20_000
"""Pairs that are in memory together, with their images and without."""


def exported_tables(
    store: Store,
    plan: Plan,
    policy: Policy,
    splits: list[str],
    into: pa.Schema,
    further: Further,
) -> Iterator[tuple[str, pa.Table]]:
    """The kept rows in the store's order, a few at a time, each table of one split."""
    annotators = plan.rows["annotator"].filter(pa.array(plan.kept)).unique().to_pylist()
    maker = _Maker(
        plan,
        namer(store, annotators, keyed=policy.pseudonyms),
        Counter(plan.rows["prompt"].filter(pa.array(plan.kept)).to_pylist()),
        ImageReader(store) if policy.images else None,
        further,
    )
    names = np.array(splits, np.str_)
    start = 0
    for file in plan.files:
        with pq.ParquetFile(readable(file)) as opened:
            size = BATCH if policy.images else WIDE_BATCH
            for batch in opened.iter_batches(batch_size=size):
                rows = np.arange(start, start + batch.num_rows)
                start += batch.num_rows
                for split in dict.fromkeys(names[rows].tolist()):
                    chosen = plan.kept[rows] & (names[rows] == split)
                    if chosen.any():
                        part = batch.filter(pa.array(chosen))
                        yield split, columns.arrays(maker.columns(part, rows[chosen]), into)


@dataclass(frozen=True)
class _Maker:
    """Turns rows of the pairs table into exported ones."""

    plan: Plan
    user_id: Callable[[str], int]
    per_prompt: Counter[str]
    reader: ImageReader | None
    further: Further

    def columns(self, batch: pa.RecordBatch, rows: npt.NDArray[np.integer]) -> dict[str, Any]:
        """Every exported column of the batch, whose rows are the plan's `rows`."""
        plan, text = self.plan, pa.string()
        whole = len(rows) and rows[-1] - rows[0] == len(rows) - 1
        facts = plan.rows.slice(rows[0], len(rows)) if whole else plan.rows.take(pa.array(rows))
        final = plan.final[rows]
        ids = [facts[f"image_{slot}"].to_pylist() for slot in (0, 1)]
        prompts = facts["prompt"].to_pylist()
        users = facts["annotator"].to_pylist()
        made: dict[str, Any] = {
            "are_different": source_column(
                batch, "are_different", pa.bool_(), [a != b for a, b in zip(*ids, strict=True)]
            ),
            "best_image_uid": self._best(batch, facts, final, ids),
            "caption": prompts,
            "created_at": facts["time"].cast(pa.timestamp("ns")).combine_chunks(),
            "has_label": ~np.isnan(final),
            "label_0": final,
            "label_1": 1 - final,
            "ranking_id": source_column(batch, "ranking_id", pa.int64(), [None] * len(rows)),
            "user_id": [None if user is None else self.user_id(user) for user in users],
            "num_example_per_prompt": source_column(
                batch, "num_example_per_prompt", pa.int64(), [self.per_prompt[p] for p in prompts]
            ),
            "__index_level_0__": source_column(
                batch, "__index_level_0__", pa.int64(), rows.tolist()
            ),
            "sample_weight": plan.weight[rows],
            **{name: values[rows] for name, values in plan.scores.items()},
            "verdict": [plan.verdict[row] for row in rows],
            "original_label_0": facts["original_label"].combine_chunks(),
            "pair_id": facts["pair_id"].combine_chunks(),
            **self.further.columns(batch),
        }
        for slot in (0, 1):
            url = source_column(batch, f"image_{slot}_url", text, [None] * len(rows))
            made |= {f"image_{slot}_uid": ids[slot], f"image_{slot}_url": url}
            made[f"model_{slot}"] = facts[f"model_{slot}"].combine_chunks()
            if self.reader:
                made[f"jpg_{slot}"] = [self._image(image_id) for image_id in ids[slot]]
        return made

    def _best(
        self, batch: pa.RecordBatch, facts: pa.Table, final: Floats, ids: list[list[str]]
    ) -> list[str | None]:
        """The preferred image's uid; the source's own word where the label is the source's."""
        nothing = [None] * len(final)
        said = source_column(batch, "best_image_uid", pa.string(), nothing).to_pylist()
        original = facts["original_label"].to_pylist()
        best: list[str | None] = []
        for row, label in enumerate(final.tolist()):
            chosen = {1.0: ids[0][row], 0.0: ids[1][row]}.get(label)
            as_it_was = label == original[row] or (math.isnan(label) and original[row] is None)
            best.append(said[row] if as_it_was and said[row] is not None else chosen)
        return best

    def _image(self, image_id: str) -> bytes:
        assert self.reader is not None
        try:
            return self.reader.read(image_id)
        except InputError as problem:
            raise InputError(
                f"The export stopped and left nothing: {problem}. Put the source back, or ingest "
                "it anew with --images copy."
            ) from problem
