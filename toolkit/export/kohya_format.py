"""Two folders of equally named files: w/ the preferred images, l/ the others, with captions.

OUT/w/PAIR_ID.jpg  OUT/w/PAIR_ID.txt  OUT/l/PAIR_ID.jpg  OUT/l/PAIR_ID.txt
OUT/metadata.jsonl   pair_id, file names and sample_weight of every pair
"""

import hashlib
import json
from typing import Any

import pyarrow as pa

from toolkit.export import table as columns
from toolkit.export.dataset_writer import Format, Job, write_bytes
from toolkit.export.policy import Policy
from toolkit.export.provenance import sha256_of
from toolkit.image_files import suffix_of
from toolkit.preference import preference
from toolkit.schema import column


def schema(_: Policy | None = None) -> pa.Schema:
    """What metadata.jsonl says of a pair."""
    ours = columns.OURS
    return pa.schema(
        [
            ours.field("pair_id"),
            column("w", pa.string(), "file of the preferred image"),
            column("l", pa.string(), "file of the other image"),
            column("preference", pa.float64(), "for the preferred image: 1, or less if graded"),
            ours.field("sample_weight"),
            ours.field("verdict"),
        ]
    )


def write(job: Job) -> dict[str, Any]:
    """Fill the two folders; pairs in each, with a hash over names and contents."""
    for name in ("w", "l"):
        (job.aside / name).mkdir()
    hashes = {name: hashlib.sha256() for name in ("w", "l")}
    entries = []
    for _, table in job.tables(columns.schema()):
        for row in table.to_pylist():
            files = {}
            for side, slot in zip(("w", "l"), (0, 1) if row["label_0"] else (1, 0), strict=True):
                data = row[f"jpg_{slot}"]
                files[side] = f"{side}/{row['pair_id']}{suffix_of(data)}"
                write_bytes(job.aside / files[side], data)
                caption = row["caption"].encode("utf-8", "surrogatepass")
                write_bytes(job.aside / side / f"{row['pair_id']}.txt", caption)
                hashes[side].update(files[side].encode() + b"\0" + data + b"\0" + caption)
            names = ("pair_id", "sample_weight", "verdict")
            entry = files | {name: row[name] for name in names}
            entries.append(entry | {"preference": float(preference(row["label"]))})
    lines = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in entries)
    write_bytes(job.aside / "metadata.jsonl", lines.encode())
    facts: dict[str, Any] = {
        f"{name}/": {"rows": len(entries), "sha256": digest.hexdigest()}
        for name, digest in hashes.items()
    }
    meta = job.aside / "metadata.jsonl"
    return facts | {"metadata.jsonl": {"rows": len(entries), "sha256": sha256_of(meta)}}


FORMAT = Format(
    "kohya",
    "two folders of equally named files, w/ and l/, with captions",
    schema,
    write,
    images="always",
    undecided=False,
)
