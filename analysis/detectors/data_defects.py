"""Defects of the data: flat images, the same image twice or under two prompts, leaks of splits."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import imagehash
import numpy as np
import pyarrow as pa
from PIL import Image

from analysis.detectors.detector import Computed, Detector, Evidence, Score
from analysis.trajectory import Ints
from toolkit.image_files import Decoded
from toolkit.schema import column

FLAT = 4.0
"""Spread of an image's colours, 0 to 255, below which it shows nothing."""
NEAR = 4
"""Bits of 64 by which the perceptual hashes of two near-identical images differ at most."""

LOOKS = pa.schema(
    [
        column("image_id", pa.string(), "as the store names it", nullable=False),
        column("content", pa.string(), "sha256 of its bytes; null: not read"),
        column("phash", pa.uint64(), "64-bit perceptual hash; null: not opened"),
        column(
            "spread",
            pa.float64(),
            "standard deviation of its values, 0 to 255, mean of red, green and blue: grey alone "
            "would call a red shape on an equally bright ground flat; null: not opened",
        ),
    ]
)

IMAGE_DEFECTS = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("flat", pa.int32(), "how many of the two images show nothing (0, 1, 2)"),
        column("identical", pa.bool_(), "both are one image: by id or by bytes"),
        column(
            "distance",
            pa.int32(),
            "bits of 64 by which the perceptual hashes differ; 4 or fewer: near-identical",
        ),
        column("elsewhere", pa.int32(), "other prompts under which one of the two images occurs"),
        column("copies", pa.int32(), "other images of the store with the bytes of one of the two"),
        column(
            "near_copies",
            pa.int32(),
            "other images that are near-identical to one of the two, by perceptual hash",
        ),
        column(
            "image_defect",
            pa.float64(),
            "1: a flat image, two identical or near-identical ones, or one under another prompt "
            "too; else 0; null where none of this is known of an image that was not opened",
        ),
    ]
)

SPLIT_LEAKS = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("same_comparison", pa.int32(), "pairs of another split: same prompt and two images"),
        column("reversed", pa.int32(), "of these, pairs with the two images the other way round"),
        column("same_image", pa.int32(), "pairs of another split: same prompt and an image of it"),
        column("same_prompt", pa.int32(), "pairs of another split under the same prompt"),
        column(
            "leak",
            pa.float64(),
            "1: another split has its comparison, or one of its images under its prompt; else 0; "
            "null without a split",
        ),
    ]
)


@dataclass(frozen=True)
class Look:
    """What is kept of an image."""

    content: str
    phash: int
    spread: float


def look(decoded: Decoded) -> Look:
    """Hash and spread of a decoded image; the hash by `imagehash.phash`."""
    grey = decoded.image.convert("L")
    bits = imagehash.phash(grey).hash.ravel()
    packed = int.from_bytes(np.packbits(bits).tobytes(), "big")
    colour = decoded.image.convert("RGB")
    small = colour.resize((64, 64), Image.Resampling.BOX) if max(colour.size) > 64 else colour
    spread = np.asarray(small, np.float64).reshape(-1, 3).std(axis=0).mean()
    return Look(decoded.content_hash, packed, float(spread))


def looks_table(looks: Mapping[str, Look]) -> pa.Table:
    """Schema LOOKS of images by id."""
    rows = [(name, *astuple(seen)) for name, seen in looks.items()]
    columns = zip(*rows, strict=True) if rows else [[]] * len(LOOKS)
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, LOOKS, strict=True)], schema=LOOKS
    )


def defects(pairs: pa.Table, looks: pa.Table) -> pa.Table:
    """Defects of each pair's two images; schema IMAGE_DEFECTS, by pair_id.

    `pairs`: pair_id, prompt, image_0, image_1. `looks`: schema LOOKS. Images are one image where
    their bytes are the same, whatever their ids; an image whose bytes are not known is itself.
    """
    import polars as pl

    frame = _with_images(pairs, looks)
    long = pl.concat(
        [frame.select("prompt", key=f"key_{slot}", id=f"image_{slot}") for slot in (0, 1)]
    ).drop_nulls("key")
    of_key = long.group_by("key").agg(
        prompts=pl.col("prompt").n_unique(), ids=pl.col("id").n_unique() - 1
    )
    near = _near_copies(looks)
    for slot in (0, 1):
        frame = frame.join(
            of_key.rename(lambda name, slot=slot: f"{name}_{slot}"), on=f"key_{slot}", how="left",
            maintain_order="left",
        ).join(
            near.rename(lambda name, slot=slot: f"{name}_{slot}"), on=f"content_{slot}", how="left",
            maintain_order="left",
        )  # fmt: skip
    first, second = (frame[f"phash_{slot}"].fill_null(0).to_numpy() for slot in (0, 1))
    identical = pl.col("key_0") == pl.col("key_1")
    both = pl.col("phash_0").is_not_null() & pl.col("phash_1").is_not_null()
    flat = sum((pl.col(f"spread_{slot}") < FLAT).cast(pl.Int32) for slot in (0, 1))
    frame = frame.with_columns(
        elsewhere=pl.Series(_elsewhere(frame, long), dtype=pl.Int32),
        flat=flat,
        identical=pl.when(both | identical).then(identical),
        distance=pl.when(both).then(pl.Series(np.bitwise_count(first ^ second), dtype=pl.Int32)),
        **{
            name: (
                pl.col(f"{short}_0").fill_null(0)
                + pl.when(identical).then(0).otherwise(pl.col(f"{short}_1").fill_null(0))
            ).cast(pl.Int32)
            for name, short in (("copies", "ids"), ("near_copies", "near"))
        },
    )
    # A flat image has no structure to hash: two of them are alike by chance of the encoder.
    alike = (pl.col("distance") <= NEAR) & (pl.col("flat") == 0)
    defect = pl.any_horizontal(
        c.fill_null(False) for c in (pl.col("flat") > 0, identical, alike, pl.col("elsewhere") > 0)
    )
    frame = frame.with_columns(
        near_copies=pl.when(both).then("near_copies"),
        image_defect=pl.when(defect).then(1.0).when(both).then(0.0),
    )
    return frame.select(IMAGE_DEFECTS.names).to_arrow().cast(IMAGE_DEFECTS)


def _with_images(pairs: pa.Table, looks: pa.Table | None) -> Any:
    """A polars frame of the pairs by pair_id, with LOOKS of each image as NAME_0 and NAME_1, and
    key_0, key_1: its bytes, else its id."""
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(pairs)).sort("pair_id")
    seen = pl.DataFrame(pl.from_arrow(LOOKS.empty_table() if looks is None else looks))
    seen = seen.unique("image_id")
    for slot in (0, 1):
        known = seen.rename({name: f"{name}_{slot}" for name in LOOKS.names})
        frame = frame.join(
            known,
            left_on=f"image_{slot}",
            right_on=f"image_id_{slot}",
            how="left",
            maintain_order="left",
        ).with_columns(pl.coalesce(f"content_{slot}", f"image_{slot}").alias(f"key_{slot}"))
    return frame


def _elsewhere(frame: Any, long: Any) -> Ints:
    """(P,) other prompts under which an image of the pair occurs."""
    import polars as pl

    prompts = [frame[f"prompts_{slot}"].fill_null(0).to_numpy().astype(np.int64) for slot in (0, 1)]
    counts = np.maximum(np.maximum(*prompts) - 1, 0)
    several = np.flatnonzero(counts > 0)
    rows = frame[several].select("prompt", "key_0", "key_1").rows()
    wanted = {key for row in rows for key in row[1:]}
    shared = long.filter(pl.col("key").is_in(list(wanted))).unique()
    by_key: dict[str, set[str]] = {}
    for key, prompt in shared.select("key", "prompt").unique().rows():
        by_key.setdefault(key, set()).add(prompt)
    for place, (prompt, *keys) in zip(several.tolist(), rows, strict=True):
        counts[place] = len(set().union(*(by_key.get(key, set()) for key in keys)) - {prompt})
    return counts


def _near_copies(looks: pa.Table) -> Any:
    """content, near: how many other images (of other bytes) are within NEAR bits of it.

    Hashes within 4 bits agree in at least one of five blocks of bits, so only those that share a
    block are compared. Flat images are left out.
    """
    import polars as pl

    seen = (
        pl.DataFrame(pl.from_arrow(looks))
        .filter(pl.col("spread") >= FLAT)
        .unique("content")
        .select("content", "phash")
    )
    hashes, place, size = np.unique(
        seen["phash"].to_numpy(), return_inverse=True, return_counts=True
    )
    near = np.zeros(len(hashes), np.int64)
    done: set[tuple[int, int]] = set()
    for shift in range(0, 64, 13):
        block = (hashes >> np.uint64(shift)) & np.uint64((1 << 13) - 1)
        order = np.argsort(block, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
            for k, first in enumerate(group[:-1].tolist()):
                others = group[k + 1 :]
                close = others[np.bitwise_count(hashes[others] ^ hashes[first]) <= NEAR]
                for other in close.tolist():
                    pair = (min(first, other), max(first, other))
                    if pair not in done:
                        done.add(pair)
                        near[first] += size[other]
                        near[other] += size[first]
    return seen.select("content", near=pl.Series(near[place] + size[place] - 1, dtype=pl.Int64))


def split_leaks(pairs: pa.Table, looks: pa.Table | None = None) -> pa.Table:
    """What each pair shares with pairs of other splits; schema SPLIT_LEAKS, by pair_id.

    `pairs`: pair_id, prompt, image_0, image_1, split; `looks`: schema LOOKS, by which images of the
    same bytes are one image.
    """
    import polars as pl

    frame = _with_images(pairs, looks).with_row_index("row")
    least, most = pl.min_horizontal("key_0", "key_1"), pl.max_horizontal("key_0", "key_1")
    frame = frame.with_columns(least=least, most=most)
    known = frame.drop_nulls(["split", "key_0", "key_1"])

    def elsewhere(rows: Any, *key: str, sought: tuple[str, ...] = ()) -> Any:
        """row, n: how many rows with these values are in other splits."""
        whole = rows.group_by(key).len("whole")
        own = rows.group_by([*key, "split"]).len("own")
        return (
            rows.join(whole, left_on=sought or key, right_on=key, how="left")
            .join(own, left_on=[*(sought or key), "split"], right_on=[*key, "split"], how="left")
            .select("row", n=pl.col("whole").fill_null(0) - pl.col("own").fill_null(0))
        )

    sides = [known.select("row", "split", "prompt", key=f"key_{slot}") for slot in (0, 1)]
    images = elsewhere(pl.concat(sides).unique(), "prompt", "key").group_by("row").agg(
        pl.col("n").sum()
    )  # fmt: skip
    turned = elsewhere(known, "prompt", "key_0", "key_1", sought=("prompt", "key_1", "key_0"))
    counts = {
        "same_comparison": elsewhere(known, "prompt", "least", "most"),
        "reversed": turned,
        "same_image": images,
        "same_prompt": elsewhere(known, "prompt"),
    }
    for name, rows in counts.items():
        frame = frame.join(
            rows.rename({"n": name}), on="row", how="left", maintain_order="left"
        ).with_columns(pl.col(name).cast(pl.Int32))
    # A pair that shares both images was counted at each.
    distinct = pl.when(pl.col("least") != pl.col("most")).then("same_comparison").otherwise(0)
    frame = frame.with_columns(same_image=pl.col("same_image") - distinct)
    frame = frame.with_columns(leak=(pl.col("same_image") > 0).cast(pl.Float64))
    return frame.select(SPLIT_LEAKS.names).to_arrow().cast(SPLIT_LEAKS)


def _image_defects(evidence: Evidence, window: str) -> Computed:  # noqa: ARG001
    assert evidence.looks is not None  # by the need `images`
    return evidence.of_pairs(defects(evidence.facts, evidence.looks))


def _split_leaks(evidence: Evidence, window: str) -> Computed:  # noqa: ARG001
    return evidence.of_pairs(split_leaks(evidence.facts, evidence.looks))


DETECTORS = (
    Detector(
        finding="image_defects",
        compute=_image_defects,
        needs=("images", "prompts"),
        scores=(
            Score(
                name="image_defect",
                column="image_defect",
                direction="high",
                formula="1 where an image is flat, twice in the pair (bytes or perceptual hash), "
                "or under another prompt too",
                assumption="a defect of an image is no error of the label: a flat image may "
                "rightly lose",
                source="perceptual hash: imagehash.phash; thresholds of this project",
            ),
        ),
    ),
    Detector(
        finding="split_leaks",
        compute=_split_leaks,
        needs=("prompts", "splits"),
        scores=(
            Score(
                name="leak",
                column="leak",
                direction="high",
                formula="1 where another split has the comparison, or the prompt with one of the "
                "two images",
                assumption="a leak is no error of the label; it makes figures on the other split "
                "too good",
                source="counting",
            ),
        ),
    ),
)
