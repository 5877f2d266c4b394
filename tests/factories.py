"""Small real stores with known content.

Images are flat squares whose colour follows the pair's number; the trajectory is synthetic, drawn
so that planted flips have a lower ell: enough for analysis, app and export to have something true
to find, without training.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from toolkit import minority
from toolkit.files.atomic import write_part
from toolkit.ids import make_comparison_id, make_pair_id
from toolkit.image_files import decode
from toolkit.labels.flips import plant_flips
from toolkit.minority import PRESETS, score
from toolkit.recorder import TrajectoryWriter
from toolkit.schema import PAIRS, VOTES
from toolkit.store import Store, create_store
from toolkit.store.images import image_row, write_images
from toolkit.store.label_sets import planted_flips
from toolkit.store.runs import start_run, update_run


def png(colour: tuple[int, int, int], side: int = 16) -> bytes:
    """A flat square as PNG."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, "PNG")
    return out.getvalue()


class WatchedProgress:
    """A `toolkit.progress.Progress` that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.updates: list[tuple[str, int, int | None]] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def update(self, task: str, done: int, total: int | None = None, note: str = "") -> None:  # noqa: ARG002
        self.updates.append((task, done, total))


@dataclass
class StoreFactory:
    """Makes stores below one folder."""

    folder: Path

    def __call__(
        self,
        *,
        pairs: int = 40,
        held_out: int = 0,
        run: bool = False,
        visits: int = 6,
        signal: float = 1.5,
        name: str = "store",
        seed: int = 0,
    ) -> Store:
        """A store of `pairs` labelled pairs; with `run`, flip20 and a run "r" trained under it.

        The last `held_out` of the pairs are of split validation.
        """
        store = create_store(self.folder / name)
        rng = np.random.default_rng(seed)
        rows, votes, images = [], [], []
        for k in range(pairs):
            ids = [f"img-{k:04d}-{slot}" for slot in (0, 1)]
            for slot, image_id in enumerate(ids):
                data = png((k * 5 % 256, 255 * slot, (k * 11) % 256))
                images.append(image_row(image_id, data, decode(data)))
            prompt = f"a square number {k // 4}"
            pair_id = make_pair_id("test", prompt, *ids, f"annotator-{k % 5}")
            rows.append(
                {
                    "pair_id": pair_id,
                    "comparison_id": make_comparison_id(prompt, *ids),
                    "prompt": prompt,
                    "image_0": ids[0],
                    "image_1": ids[1],
                    "label": float(rng.integers(2)),
                    "split": "validation" if k >= pairs - held_out else "train",
                    "source": "test",
                }
            )
            votes.append(
                {"pair_id": pair_id, "annotator": f"annotator-{k % 5}", "choice": rows[-1]["label"]}
            )
        write_part(store.folder("pairs"), pa.Table.from_pylist(rows, schema=PAIRS))
        write_part(store.folder("votes"), pa.Table.from_pylist(votes, schema=VOTES))
        write_images(store, images)
        if run:
            self.add_run(store, rows, visits=visits, signal=signal, seed=seed)
        return store

    @staticmethod
    def add_run(
        store: Store, rows: list[dict], *, visits: int, signal: float, seed: int = 0, run: str = "r"
    ) -> None:
        """A synthetic run of three models: ell ~ N(+-signal, 1) * 1e-3 by true label."""
        if "flip20" not in store_sets(store):
            plant_flips(store, "flip20", rate=0.2, seed=0)
        flipped = set(planted_flips(store, "flip20") or [])
        rng = np.random.default_rng(seed + 1)
        models = ["policy", "ema_0.99", "ema_0.5"]
        metric = PRESETS["released"]
        about = {"models": models, "labels": "flip20", "metric": {"preset": "released"}}
        start_run(store, run, about, "objective: {name: adaptive_dpo}\n")
        recorder = TrajectoryWriter(store.run(run), models)
        ids = np.array([row["pair_id"] for row in rows])
        true = np.array([row["label"] for row in rows])
        flips = np.array([pair in flipped for pair in ids])
        label = np.where(flips, 1 - true, true)
        batch, step = 10, 0
        for visit in range(visits):
            order = rng.permutation(len(rows))
            for start in range(0, len(rows), batch):
                take = order[start : start + batch]
                recorder.append(
                    **_micro_batch(rng, take, ids, label, flips, signal, metric),
                    visit=visit,
                    draw=visit,
                    step=step,
                    micro=step,
                )
                step += 1
        recorder.close()
        update_run(store, run, steps=step, finished=True)


def store_sets(store: Store) -> list[str]:
    from toolkit.store.label_sets import label_sets

    return label_sets(store)


def _micro_batch(rng, take, ids, label, flips, signal, metric) -> dict:
    n = len(take)
    agree = np.where(flips[take], -signal, signal) + rng.normal(size=n)
    ell = (agree + 0.3 * rng.normal(size=(3, n))) * 1e-3
    sign = 2 * label[take] - 1
    err_ref = rng.uniform(0.1, 0.2, size=(2, n)).astype(np.float32)
    err_1 = np.tile(err_ref[1], (3, 1)).astype(np.float32)
    err_0 = (err_ref[0] - sign * ell).astype(np.float32)
    chosen_first = label[take] == 1
    exact = np.where(chosen_first, 1, -1) * minority.ell(err_ref[0], err_ref[1], err_0, err_1)
    norm = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    scale = np.broadcast_to(metric.rho / norm, exact.shape)
    scores = score(exact * scale, metric)
    return {
        "pair_id": ids[take].tolist(),
        "timestep": rng.integers(0, 1000, size=n).astype(np.int32),
        "err_ref_0": err_ref[0],
        "err_ref_1": err_ref[1],
        "err_0": err_0,
        "err_1": err_1,
        "scale": scale,
        "label": label[take].astype(np.float32),
        "confidence": scores.confidence,
        "stability": scores.stability,
        "minority": scores.minority,
        "weight": 1 / (1 + 10 * scores.minority),
        "margin": np.zeros(n),
        "c2": 0.0,
        "loss": np.full(n, 0.69),
    }
