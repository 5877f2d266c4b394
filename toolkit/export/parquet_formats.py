"""Curated sets as Parquet tables: Pick-a-Pic's columns, chosen and rejected, image files, weights.

    OUT/data/train-00000-of-00003.parquet   rows in the store's order, one split a file
    OUT/data/images/...                     offline-pairs: the two image files of each row
    OUT/weights.parquet, .npy, labels.npy   weights: every pair of the store, no images

`label_0` says on which side an image was, also where columns are named after the winner: 1 where
the winner came first in the source. So a set can be ingested again as the same pairs.
"""

import hashlib
import io
import json
from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.export import table as columns
from toolkit.export.dataset_writer import Format, Job, write_bytes, write_parquet
from toolkit.export.policy import Policy
from toolkit.export.provenance import sha256_of
from toolkit.files.atomic import write_whole
from toolkit.image_files import suffix_of
from toolkit.preference import preference, side, values_of
from toolkit.schema import column

ShardRows = Annotated[int | None, "Rows a file.", (1, 10**9)]


def pickapic_schema(policy: Policy) -> pa.Schema:
    """Pick-a-Pic's columns, then ours; without the images where the policy leaves them out."""
    return columns.schema(images=policy.images)


def write_pickapic(job: Job, *, shard_rows: ShardRows = None) -> dict[str, Any]:
    """Fill data/ with Pick-a-Pic's columns; rows and hashes of the files."""
    into = columns.schema(images=job.policy.images, further=job.source.schema)
    return write_parquet(job, into, shard_rows=shard_rows)


PICKAPIC = Format(
    "pickapic",
    "Parquet in Pick-a-Pic's columns",
    pickapic_schema,
    write_pickapic,
    source_columns=True,
)

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SIDES = (
    column("chosen_uid", pa.string(), "name of the chosen image"),
    column("rejected_uid", pa.string(), "name of the other image"),
    column("chosen_model", pa.string(), "the model that made the chosen image"),
    column("rejected_model", pa.string(), "the model that made the other image"),
    *(
        columns.PICKAPIC.field(name)
        for name in ("created_at", "ranking_id", "user_id", "__index_level_0__")
    ),
    *columns.OURS,
)
"""What both formats that are named after the winner have after the images."""


def chosen_rejected_schema(_: Policy | None = None, further: Iterable[pa.Field] = ()) -> pa.Schema:
    """Columns in order, with the features by which `datasets` knows images."""
    fields = [
        column("prompt", pa.string(), "the text both images were made from"),
        column("chosen", _IMAGE, "the preferred image, encoded as the source had it"),
        column("rejected", _IMAGE, "the other image"),
        column("label_0", pa.float64(), "1: the chosen came first in the source, 0: second"),
        *_SIDES,
        *further,
    ]
    about = {"info": {"features": {field.name: _feature(field.type) for field in fields}}}
    return pa.schema(fields).with_metadata({"huggingface": json.dumps(about)})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == _IMAGE:
        return {"_type": "Image"}
    # datasets has Arrow's own words for every flat type but these.
    words = {"double": "float64", "float": "float32", "halffloat": "float16"}
    name = {"date32[day]": "date32", "date64[ms]": "date64"} | words
    return {"dtype": name.get(str(kind), str(kind)), "_type": "Value"}


def write_chosen_rejected(job: Job, *, shard_rows: ShardRows = None) -> dict[str, Any]:
    """Fill data/ with the preferred image first; rows and hashes of the files."""
    into = chosen_rejected_schema(further=job.source.schema)

    def convert(table: pa.Table) -> pa.Table:
        made = _sided(table)
        for role in ("chosen", "rejected"):
            uids, data = made[f"{role}_uid"].to_pylist(), made[role].to_pylist()
            paths = [f"{uid}{suffix_of(image)}" for uid, image in zip(uids, data, strict=True)]
            made[role] = pa.StructArray.from_arrays(
                [made[role], pa.array(paths, pa.string())], fields=list(_IMAGE)
            )
        return pa.table({name: made[name] for name in into.names}).cast(into)

    return write_parquet(job, _rows(job), into, convert, shard_rows=shard_rows)


CHOSEN_REJECTED = Format(
    "chosen-rejected",
    "Parquet of prompt, chosen and rejected image, as TRL and datasets read",
    chosen_rejected_schema,
    write_chosen_rejected,
    images="always",
    undecided=False,
    source_columns=True,
)

_INFO = pa.struct([("raw_prompt", pa.string()), ("pair_id", pa.string())])


def offline_pairs_schema(_: Policy | None = None, further: Iterable[pa.Field] = ()) -> pa.Schema:
    """The columns that verl-omni's offline trainer reads, then ours."""
    return pa.schema(
        [
            column("prompt", pa.string(), "the text both images were made from"),
            column("img_win", pa.string(), "file of the preferred image, from this file's folder"),
            column("img_lose", pa.string(), "file of the other image"),
            column("win_score", pa.float64(), "share of the preference for the preferred image"),
            column("lose_score", pa.float64(), "1 - win_score"),
            column("data_source", pa.string(), "outvoted"),
            column("extra_info", _INFO, "prompt and pair_id once more, where the trainer looks"),
            column("label_0", pa.float64(), "1: the preferred image came first in the source"),
            *_SIDES,
            *further,
        ]
    )


def write_offline_pairs(job: Job) -> dict[str, Any]:
    """Fill data/ with one table a split and the image files; their rows and hashes."""
    into = offline_pairs_schema(further=job.source.schema)
    folder = job.aside / "data" / "images"
    folder.mkdir(parents=True)
    digest, pairs = hashlib.sha256(), int(job.plan.kept.sum())

    def convert(table: pa.Table) -> pa.Table:
        made = _sided(table)
        ids = table["pair_id"].to_pylist()
        for role, name in (("chosen", "win"), ("rejected", "lose")):
            paths = []
            for pair_id, data in zip(ids, made[role].to_pylist(), strict=True):
                path = f"images/{pair_id}.{name}{suffix_of(data)}"
                write_bytes(folder.parent / path, data)
                digest.update(path.encode() + b"\0" + data)
                paths.append(path)
            made[f"img_{name}"] = pa.array(paths, pa.string())
        share = preference(values_of(table["label"]))
        made |= {"win_score": pa.array(share), "lose_score": pa.array(1 - share)}
        made["data_source"] = pa.array(["outvoted"] * len(ids))
        prompts = table["caption"].combine_chunks()
        made["extra_info"] = pa.StructArray.from_arrays([prompts, ids], fields=list(_INFO))
        return pa.table({name: made[name] for name in into.names}).cast(into)

    # The trainer finds image files from its table's folder only where it reads a single table.
    files = write_parquet(job, _rows(job), into, convert, shard_rows=10**9)
    return files | {"data/images/": {"rows": 2 * pairs, "sha256": digest.hexdigest()}}


OFFLINE_PAIRS = Format(
    "offline-pairs",
    "Parquet of prompt, img_win, img_lose and scores beside image files, for verl-omni",
    offline_pairs_schema,
    write_offline_pairs,
    images="always",
    undecided=False,
    source_columns=True,
)


def _rows(job: Job) -> pa.Schema:
    return columns.schema(further=job.source.schema)


def _sided(table: pa.Table) -> dict[str, Any]:
    """Pick-a-Pic's rows by column, with chosen and rejected instead of image 0 and 1."""
    made = {name: table[name].combine_chunks() for name in table.column_names}
    first = pc.equal(made["label_0"], 1.0)
    for role, (yes, no) in (("chosen", (0, 1)), ("rejected", (1, 0))):
        made |= {
            role: pc.if_else(first, made[f"jpg_{yes}"], made[f"jpg_{no}"]),
            f"{role}_uid": pc.if_else(first, made[f"image_{yes}_uid"], made[f"image_{no}_uid"]),
            f"{role}_model": pc.if_else(first, made[f"model_{yes}"], made[f"model_{no}"]),
        }
    return made | {"prompt": made["caption"]}


def weights_schema(_: Policy | None = None) -> pa.Schema:
    """Columns of weights.parquet."""
    ours = columns.OURS
    return pa.schema(
        [
            ours.field("pair_id"),
            column("label_0", pa.float32(), "1: image 0 preferred, 0: image 1, .5: tie, or null"),
            column("sample_weight", pa.float32(), "weight in a loss; 0 where the pair is left out"),
            column("kept", pa.bool_(), "whether an export of the set contains the pair"),
            *(ours.field(name) for name in ("minority", "confidence", "stability", "verdict")),
            column("original_label_0", pa.float32(), "the label as the source had it"),
            ours.field("label"),
            ours.field("label_weight"),
        ]
    )


def write_weights(job: Job) -> dict[str, Any]:
    """Write weights.parquet, and weights.npy and labels.npy in the same order, float32: its columns
    sample_weight and label (graded labels as they are)."""
    plan = job.plan
    weight = np.where(plan.kept, plan.weight, 0).astype(np.float32)
    label = plan.final.astype(np.float32)
    made = {
        "pair_id": plan.rows["pair_id"],
        "label_0": pa.array(side(label), from_pandas=True),
        "label": pa.array(plan.final, from_pandas=True),
        "label_weight": pa.array(plan.label_weight, from_pandas=True),
        "sample_weight": pa.array(weight),
        "kept": pa.array(plan.kept),
        **{name: pa.array(values, from_pandas=True) for name, values in plan.scores.items()},
        "verdict": pa.array(plan.verdict, pa.string()),
        "original_label_0": plan.rows["original_label"],
    }
    into = weights_schema()
    table = pa.table({name: made[name] for name in into.names}).cast(into)
    write_whole(job.aside / "weights.parquet", table)
    for name, values in (("weights", weight), ("labels", label)):
        buffer = io.BytesIO()
        np.save(buffer, values)
        write_bytes(job.aside / f"{name}.npy", buffer.getvalue())
    names = ("weights.parquet", "weights.npy", "labels.npy")
    return {name: {"rows": len(weight), "sha256": sha256_of(job.aside / name)} for name in names}


WEIGHTS = Format(
    "weights",
    "labels and weights of every pair, no images",
    weights_schema,
    write_weights,
    images="never",
)
