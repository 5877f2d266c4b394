"""The pairs a run trains on or measures: their labels, weights, order and pixels."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image

from toolkit.errors import RecipeError, TrainingError
from toolkit.files.remote import must_be_local
from toolkit.preference import is_graded, is_tie, preference, side, values_of
from toolkit.store import Store, open_store
from toolkit.store.pair_table import pair_table
from toolkit.store.runs import finding_columns, read_findings
from toolkit.store.verdicts import PREFERENCE, agrees, resolve
from training.denoising import epoch_order
from training.recipe import Recipe, StoredWeights


@dataclass(frozen=True)
class Pairs:
    """Trainable pairs in the order of their ids; arrays of length N.

    What verdicts decide (`label`, `dropped`, `force_weight_one`, `verdict_id`) may change between
    two steps of a run, through `apply_verdicts`; everything else is constant.
    """

    pair_id: np.ndarray
    prompt: list[str]
    image_0: list[str]
    image_1: list[str]
    set_label: np.ndarray
    """The label set's, from 0 to 1, or NaN where the set has none; float32."""
    label: np.ndarray
    """The side trained on: 1 where image_0 is chosen, 0 where image_1 is; float32."""
    preference: np.ndarray
    """The label as a preference for the chosen image: 1, or from .5 to 1 where it is graded;
    float32."""
    label_weight: np.ndarray
    """How many votes, or how much trust, the label rests on; NaN where it is not known; float32."""
    graded: bool
    """Whether the run has graded labels: constant, as all processes must agree on it."""
    weight: np.ndarray
    """A stored weight on the pair's loss, 1 unless the recipe names a finding; float32."""
    weight_is_stored: np.ndarray
    """True where the stored weight replaces the live one: then W is 1."""
    dropped: np.ndarray
    """True where a verdict removed the pair during the run: its loss is multiplied by 0."""
    force_weight_one: np.ndarray
    """True where a verdict confirmed the label and the recipe sets W to 1 for it."""
    verdict_id: list[str | None]
    left_out: dict[str, int]
    """Why pairs of the split are not here, and how many."""

    def __len__(self) -> int:
        return len(self.prompt)

    def chosen(self, k: int) -> str:
        """image_id of the preferred image of pair k."""
        return self.image_0[k] if self.label[k] == 1 else self.image_1[k]

    def rejected(self, k: int) -> str:
        """image_id of the other image of pair k."""
        return self.image_1[k] if self.label[k] == 1 else self.image_0[k]

    def content(self) -> str:
        """sha256 over ids, prompts and images; a resumed run needs the same."""
        digest = hashlib.sha256()
        for row in zip(self.pair_id, self.prompt, self.image_0, self.image_1, strict=True):
            digest.update("\x1f".join(map(str, row)).encode())
        return digest.hexdigest()

    def labels_content(self) -> str:
        """sha256 over the label set's labels, before any verdict."""
        return hashlib.sha256(self.set_label.tobytes()).hexdigest()

    def weights_content(self) -> str:
        """sha256 over the stored weights, and which of them replace the live ones."""
        return hashlib.sha256(self.weight.tobytes() + self.weight_is_stored.tobytes()).hexdigest()


Verdicts = Mapping[str, Mapping[str, Any]]
"""pair_id -> {choice, verdict_id}: one resolved verdict a pair (`published_verdicts`)."""


def published_verdicts(store: Store) -> dict[str, dict[str, Any]]:
    """The resolved verdict of every pair that has a published one."""
    rows = resolve(store).select(["pair_id", "choice", "verdict_id"]).to_pylist()
    return {row.pop("pair_id"): row for row in rows}


def load_pairs(
    store: Store, *, labels: str, split: str | None, verdicts: Verdicts | None = None
) -> Pairs:
    """Pairs of a split (None: without one) that can be trained on under a label set and, if given,
    verdicts.

    Ties, unlabelled pairs, pairs without images, and pairs with the verdict tie or drop are left
    out and counted. TrainingError where nothing remains.
    """
    columns = ["prompt", "image_0", "image_1", "split", "label", "label_weight"]
    table = _of_split(store, pair_table(store, labels=labels, columns=columns, by_id=True), split)
    label_of = table["label"].to_pylist()
    left_out: Counter[str] = Counter()
    kept: list[tuple[int, float, str | None]] = []
    ids = table["pair_id"].to_pylist()
    absent = pc.or_(pc.is_null(table["image_0"]), pc.is_null(table["image_1"])).to_pylist()
    for row, pair_id in enumerate(ids):
        verdict = (verdicts or {}).get(pair_id)
        label, verdict_id, reason = label_under_verdict(label_of[row], verdict)
        reason = reason or ("no image" if absent[row] else None)
        if reason is None and label is not None:
            kept.append((row, label, verdict_id))
        else:
            left_out[reason or "unlabelled"] += 1
    if not kept:
        named = "without a split" if split is None else f"of split {split!r}"
        raise TrainingError(
            f"No pair {named} can be trained on ({_counts(left_out)}); ingest pairs "
            "with labels and images, or choose another label set."
        )
    return _pairs(table, label_of, kept, dict(left_out))


def label_under_verdict(
    label: float | None, verdict: Mapping[str, Any] | None
) -> tuple[float | None, str | None, str | None]:
    """The label to train on, the verdict_id, and a reason to leave the pair out (None: train).

    `image_0` and `image_1` set the label unless it leans there already, `tie` and `drop` remove the
    pair, `unsure` does nothing.
    """
    verdict_id = None
    if verdict is not None and verdict["choice"] != "unsure":
        verdict_id = verdict["verdict_id"]
        if verdict["choice"] in ("tie", "drop"):
            return label, verdict_id, f"verdict {verdict['choice']}"
        if not agrees(verdict["choice"], label):
            label = PREFERENCE[verdict["choice"]]
    if label is not None and is_tie(label):
        return label, verdict_id, "tie"
    return label, verdict_id, None


def _pairs(
    table: pa.Table,
    label_of: list[float | None],
    kept: list[tuple[int, float, str | None]],
    left_out: dict[str, int],
) -> Pairs:
    table = table.take([row for row, _, _ in kept])
    known = [label_of[row] for row, _, _ in kept]
    label = np.array([label for _, label, _ in kept])
    return Pairs(
        pair_id=np.array(table["pair_id"].to_pylist()),
        prompt=table["prompt"].to_pylist(),
        image_0=table["image_0"].to_pylist(),
        image_1=table["image_1"].to_pylist(),
        set_label=np.array([np.nan if label is None else label for label in known], np.float32),
        label=side(label).astype(np.float32),
        preference=preference(label).astype(np.float32),
        label_weight=values_of(table["label_weight"]).astype(np.float32),
        graded=bool(is_graded([np.nan if label is None else label for label in known]).any()),
        weight=np.ones(len(kept), np.float32),
        weight_is_stored=np.zeros(len(kept), bool),
        dropped=np.zeros(len(kept), bool),
        force_weight_one=np.zeros(len(kept), bool),
        verdict_id=[verdict_id for _, _, verdict_id in kept],
        left_out=left_out,
    )


def _of_split(store: Store, table: pa.Table, split: str | None) -> pa.Table:
    """The rows of a split; of the split train every row, where the store has no splits."""
    splits = Counter(table["split"].to_pylist())
    if split == "train" and set(splits) == {None}:
        return table
    mask = pc.is_null(table["split"]) if split is None else pc.equal(table["split"], split)
    table = table.filter(mask)
    if not table.num_rows:
        named = "without a split" if split is None else f"of split {split!r}"
        there = ", ".join(f"{name or 'null'} {n:,}" for name, n in splits.most_common())
        raise TrainingError(
            f"{store.root} has no pairs {named} (it has: {there or 'none at all'}); set `split:` "
            "to one it has, or ingest some first."
        )
    return table


def refuse_graded(recipe: Recipe, pairs: Pairs) -> None:
    """RecipeError where the pairs have graded labels, and the objective no loss of them."""
    reason = recipe.objective.no_graded_labels
    if pairs.graded and reason:
        count = int(is_graded(pairs.set_label).sum())
        raise RecipeError(
            f"objective.name: {recipe.objective.name} cannot train on label set {recipe.labels!r}, "
            f"in which {count:,} labels are graded (between 0 and 1): {reason}. Name another "
            "objective, or a label set of full preferences."
        )


def apply_label_weights(pairs: Pairs) -> None:
    """Multiply `pairs.weight` by each label's weight over the mean weight, in place. A pair without
    one counts as the mean. RecipeError where no pair has any."""
    known = ~np.isnan(pairs.label_weight)
    mean = pairs.label_weight[known].mean(dtype=np.float64) if known.any() else 0.0
    if not mean > 0:
        raise RecipeError(
            "label_weights: no label of the run's pairs has a weight; remove the key, or name a "
            "label set whose labels have one."
        )
    pairs.weight[known] *= (pairs.label_weight[known] / mean).astype(np.float32)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason}: {n}" for reason, n in sorted(counts.items())) or "none at all"


def store_of(recipe: Recipe) -> Store:
    """The recipe's store. RecipeError where it names none, InputError where it is not local."""
    if recipe.store is None:
        raise RecipeError("The recipe names no store; add `store: PATH`, or pass --store PATH.")
    return on_disk(open_store(recipe.store))


def on_disk(store: Store) -> Store:
    """The store, if a run can be written to it. InputError where it is not local."""
    must_be_local(store.root, "training, with its checkpoints and caches, needs")
    return store


def positions(seed: int, count: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """(pair index, visit) without end, from integer position `start`: epoch after epoch."""
    epoch, offset = divmod(start, count)
    while True:
        for k in epoch_order(seed, epoch, count)[offset:]:
            yield int(k), epoch
        epoch, offset = epoch + 1, 0


def to_pixels(image: Image.Image, resolution: int) -> tuple[torch.Tensor, list[int]]:
    """(3, R, R) in [-1, 1] and SDXL's time ids: shorter side resized, centre cropped."""
    width, height = image.size
    scale = resolution / min(width, height)
    resized = (max(resolution, round(width * scale)), max(resolution, round(height * scale)))
    if resized != image.size:
        image = image.resize(resized, Image.Resampling.LANCZOS)
    left, top = (resized[0] - resolution) // 2, (resized[1] - resolution) // 2
    image = image.crop((left, top, left + resolution, top + resolution))
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)
    return pixels / 127.5 - 1, [height, width, top, left, resolution, resolution]


def apply_verdicts(pairs: Pairs, verdicts: Verdicts, keep: str) -> int:
    """Apply verdicts to `pairs` in place; how many of them concern a pair of the run.

    `keep`: `one` sets W to 1 where a verdict confirms the label set's label.
    """
    spots = {pair: k for k, pair in enumerate(pairs.pair_id.tolist()) if pair in verdicts}
    for pair, k in spots.items():
        set_label = None if np.isnan(pairs.set_label[k]) else float(pairs.set_label[k])
        label, verdict_id, reason = label_under_verdict(set_label, verdicts[pair])
        pairs.dropped[k] = reason is not None or label is None
        if label is not None and reason is None:
            pairs.label[k] = side(label)
            pairs.preference[k] = preference(label)
        pairs.force_weight_one[k] = keep == "one" and agrees(verdicts[pair]["choice"], set_label)
        pairs.verdict_id[k] = verdict_id
    return len(spots)


def apply_stored_weights(store: Store, section: StoredWeights | None, pairs: Pairs) -> None:
    """Set `pairs.weight` in place from the finding that a recipe names; a missing pair keeps 1.

    RecipeError where the column does not exist or contains something that is not a weight.
    """
    if section is None:
        return
    known = finding_columns(store, section.run, section.finding)
    if section.column not in known:
        raise RecipeError(
            f"weights.column: the finding {section.finding!r} has no column {section.column!r}; "
            f"it has {', '.join(known)}."
        )
    table = read_findings(store, section.run, section.finding, ["pair_id", section.column])
    ids = table["pair_id"].to_pylist()
    values = table[section.column].to_pylist()
    wrong = [v for v in values if v is not None and not (isinstance(v, float | int) and v >= 0)]
    if wrong:
        raise RecipeError(
            f"weights.column: {section.column!r} of finding {section.finding!r} contains "
            f"{wrong[0]!r}; a weight is a number of 0 or more."
        )
    weight_of = dict(zip(ids, values, strict=True))
    stored = [weight_of.get(pair) for pair in pairs.pair_id.tolist()]
    pairs.weight[:] = [1.0 if value is None else value for value in stored]
    if section.mode == "instead":
        pairs.weight_is_stored[:] = np.array([value is not None for value in stored])


def probe_members(seed: int, pair_ids: Sequence[str] | np.ndarray, pairs: int | None) -> list[int]:
    """Indices of the pairs that a probe measures: `pairs` of them chosen by the seed, in order.

    Each pair is ranked by a hash of its own id, so runs that differ in a few pairs (a tie, a
    dropped pair) measure the same ones except for those.
    """
    if pairs is None or pairs >= len(pair_ids):
        return list(range(len(pair_ids)))
    keys = [hashlib.sha256(f"probe {seed} {name}".encode()).digest() for name in pair_ids]
    return sorted(heapq.nsmallest(pairs, range(len(keys)), key=keys.__getitem__))
