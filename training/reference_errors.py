"""The reference's errors under fixed draws: computed at a pair's first visit, read at later ones.

They are kept by image slot, so a flipped label needs no new ones. What an error depends on besides
the pair and its draw is hashed into the folder's name.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.files.atomic import parts, write_part
from toolkit.schema import column
from toolkit.store import Store
from training.latent_cache import cache_folder
from training.pairs import Pairs

REFERENCE = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("draw", pa.int32(), "which fixed draw", nullable=False),
        column("err_ref_0", pa.float32(), "reference's mean squared error on image_0"),
        column("err_ref_1", pa.float32(), "the same on image_1"),
    ]
)


class ReferenceErrors:
    """(N, K, 2) errors of N pairs under K fixed draws; NaN where not computed yet."""

    def __init__(
        self, pairs: Pairs, draws: int, store: Store | None, ingredients: dict[str, Any]
    ) -> None:
        """Kept in memory, and with `store` also on its disk, under `ingredients`."""
        self._pairs = pairs
        self._spot = {name: k for k, name in enumerate(pairs.pair_id.tolist())}
        self._errors = np.full((len(pairs), draws, 2), np.nan, np.float32)
        self._fresh: list[tuple[np.ndarray, np.ndarray]] = []
        self._folder = None
        if store is not None:
            self._folder = cache_folder(store.folder("caches"), "reference", ingredients)
            self._read()

    def known(self, pair: list[int], draw: list[int], label: np.ndarray) -> np.ndarray | None:
        """(2, B) errors on chosen and rejected, or None unless every one is known."""
        slots = self._errors[pair, draw]
        if np.isnan(slots).any():
            return None
        sides = np.where(label[:, None] == 1, slots, slots[:, ::-1])
        return np.ascontiguousarray(sides.T)

    def put(self, pair: np.ndarray, draw: np.ndarray, errors: np.ndarray) -> None:
        """Add errors by slot, (2, B); of each pair and draw the first value is kept."""
        fresh = np.isnan(self._errors[pair, draw, 0])
        fresh &= _first(pair * self._errors.shape[1] + draw)
        pair, draw, errors = pair[fresh], draw[fresh], errors[:, fresh]
        self._errors[pair, draw] = errors.T
        if len(pair):
            self._fresh.append((pair, draw))

    def flush(self) -> None:
        """Write the errors that are new since the last call, if a store was given."""
        fresh, self._fresh = self._fresh, []
        if self._folder is None or not fresh:
            return
        pair = np.concatenate([p for p, _ in fresh])
        draw = np.concatenate([d for _, d in fresh])
        errors = self._errors[pair, draw]
        columns = [self._pairs.pair_id[pair], draw.astype(np.int32), errors[:, 0], errors[:, 1]]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, REFERENCE, strict=True)]
        write_part(self._folder, pa.Table.from_arrays(arrays, schema=REFERENCE))

    def recall(self, rank: Path) -> None:
        """Read what a rank computed before it was stopped from its trajectory, so that a resumed
        run has the same bits whatever batches come next."""
        names = [*REFERENCE.names, "kind"]
        for path in parts(rank):
            self._take(pq.read_table(path, columns=names, filters=[("kind", "=", "train")]))

    def _read(self) -> None:
        assert self._folder is not None
        for path in parts(self._folder):
            self._take(pq.read_table(path))

    def _take(self, table: pa.Table) -> None:
        where = np.array([self._spot.get(name, -1) for name in table["pair_id"].to_pylist()], int)
        draw = table["draw"].to_numpy()
        here = (where >= 0) & (draw < self._errors.shape[1])
        both = np.stack([table["err_ref_0"].to_numpy(), table["err_ref_1"].to_numpy()], axis=1)
        self._errors[where[here], draw[here]] = both[here]


def _first(names: np.ndarray) -> np.ndarray:
    """True where a name occurs for the first time."""
    first = np.zeros(len(names), bool)
    first[np.unique(names, return_index=True)[1]] = True
    return first
