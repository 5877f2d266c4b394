"""Prompt, chosen, rejected: what TRL-style trainers read, and `datasets.load_dataset` as images.

    OUT/data/train-00000-of-00003.parquet   prompt, chosen, rejected, and our columns after them

`label_0` says which of the two came first in the source (1: the chosen), so that the set can be
ingested again as the same pairs.
"""

import json
from collections.abc import Iterable
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc

from toolkit.export import table as columns
from toolkit.export.dataset_writer import Format, Job, write_parquet
from toolkit.export.policy import Policy
from toolkit.image_files import suffix_of
from toolkit.schema import column

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_KEPT = ("created_at", "ranking_id", "user_id")


def schema(_: Policy | None = None, further: Iterable[pa.Field] = ()) -> pa.Schema:
    """Columns in order, with the features by which `datasets` knows images."""
    fields = [
        column("prompt", pa.string(), "the text both images were made from"),
        column("chosen", _IMAGE, "the preferred image, encoded as the source had it"),
        column("rejected", _IMAGE, "the other image"),
        column("label_0", pa.float64(), "1: the chosen came first in the source, 0: second"),
        column("chosen_uid", pa.string(), "name of the chosen image"),
        column("rejected_uid", pa.string(), "name of the other image"),
        column("chosen_model", pa.string(), "the model that made the chosen image"),
        column("rejected_model", pa.string(), "the model that made the other image"),
        *(columns.PICKAPIC.field(name) for name in _KEPT),
        *columns.OURS,
        *further,
    ]
    features = {field.name: _feature(field.type) for field in fields}
    about = {"info": {"features": features}}
    return pa.schema(fields).with_metadata({"huggingface": json.dumps(about)})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == _IMAGE:
        return {"_type": "Image"}
    # datasets has Arrow's own words for every flat type but these.
    words = {"double": "float64", "float": "float32", "halffloat": "float16"}
    name = {"date32[day]": "date32", "date64[ms]": "date64"} | words
    return {"dtype": name.get(str(kind), str(kind)), "_type": "Value"}


def write(
    job: Job, *, shard_rows: Annotated[int | None, "Rows a file.", (1, None)] = None
) -> dict[str, Any]:
    """Fill data/ with Parquet files; their rows and hashes."""
    own = job.source.schema
    into = schema(further=own)

    def convert(table: pa.Table) -> pa.Table:
        return _sided(table, into, own.names)

    return write_parquet(job, columns.schema(further=own), into, convert, shard_rows=shard_rows)


def _sided(table: pa.Table, into: pa.Schema, own: list[str]) -> pa.Table:
    """Pick-a-Pic's rows with chosen and rejected instead of image 0 and 1. `own`: the source's."""
    first = pc.equal(table["label_0"], 1.0).combine_chunks()
    made: dict[str, Any] = {"prompt": table["caption"]}
    for side, (yes, no) in (("chosen", (0, 1)), ("rejected", (1, 0))):
        uid = _either(first, table, f"image_{yes}_uid", f"image_{no}_uid")
        data = _either(first, table, f"jpg_{yes}", f"jpg_{no}")
        paths = [
            f"{name}{suffix_of(image)}"
            for name, image in zip(uid.to_pylist(), data.to_pylist(), strict=True)
        ]
        made[side] = pa.StructArray.from_arrays(
            [data, pa.array(paths, pa.string())], fields=list(_IMAGE)
        )
        made[f"{side}_uid"] = uid
        made[f"{side}_model"] = _either(first, table, f"model_{yes}", f"model_{no}")
    names = [*_KEPT, "label_0", *columns.OURS.names, *own]
    made |= {name: table[name].combine_chunks() for name in names}
    return pa.table({name: made[name] for name in into.names}).cast(into)


def _either(first: pa.Array, table: pa.Table, yes: str, no: str) -> pa.Array:
    return pc.if_else(first, table[yes].combine_chunks(), table[no].combine_chunks())


FORMAT = Format(
    "chosen-rejected",
    "Parquet of prompt, chosen and rejected image, as TRL and datasets read",
    schema,
    write,
    images="always",
    undecided=False,
    source_columns=True,
)
