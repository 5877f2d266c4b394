"""What an export asks of a store: every pair in the store's order, and which images are absent."""

import hashlib
from pathlib import Path

import pyarrow as pa

from toolkit.pairs import SOURCE_PREFIX
from toolkit.parts import parts
from toolkit.store.labels import ORIGINAL
from toolkit.store.layout import Store
from toolkit.store.query import connect, effective_labels, fetch, parquet, quoted

_SOURCE_COLUMNS = {
    "model_0": "VARCHAR",
    "model_1": "VARCHAR",
    "user_id": "VARCHAR",
    "created_at": "TIMESTAMP",
    "sample_weight": "DOUBLE",
}


def pair_files(store: Store) -> list[Path]:
    """The pairs' parts of this moment; a reader that walks them twice names them once."""
    return parts(store.folder("pairs"))


def pairs_in_order(
    store: Store, files: list[Path], labels: str = ORIGINAL, seen: str = ORIGINAL
) -> pa.Table:
    """Every pair of `files`, row for row as they lie there, without the source's columns.

    Columns: pair_id, prompt, image_0, image_1, split, label (under the set `labels`),
    original_label, seen_label (under the set `seen`), model_0, model_1, sample_weight, annotator,
    time. Annotator and time are those of the pair's only vote, else what the source's columns say.
    """
    with connect(store) as con:
        under = effective_labels(store, labels)
        con.register("label_under", under)
        con.register("label_seen", under if seen == labels else effective_labels(store, seen))
        if not files:
            con.execute("CREATE VIEW placed AS SELECT *, '' AS place, 0 AS place_row FROM pairs")
        else:
            con.execute(f"CREATE VIEW placed AS {_placed(files)}")
        found = fetch(con, "SELECT * FROM placed LIMIT 0").column_names
        source = {name: _source(name, kind, found) for name, kind in _SOURCE_COLUMNS.items()}
        return fetch(
            con,
            f"""
            SELECT p.pair_id, p.prompt, p.image_0, p.image_1, p.split, l.label, l.original_label,
                s.label AS seen_label, {source["model_0"]} AS model_0,
                {source["model_1"]} AS model_1, {source["sample_weight"]} AS sample_weight,
                coalesce(v.annotator, {source["user_id"]}) AS annotator,
                coalesce(CAST(v.time AS TIMESTAMP), {source["created_at"]}) AS time
            FROM placed p
            LEFT JOIN label_under l USING (pair_id)
            LEFT JOIN label_seen s USING (pair_id)
            LEFT JOIN (
                SELECT pair_id, any_value(annotator) AS annotator, any_value(time) AS time
                FROM votes GROUP BY pair_id HAVING count(*) = 1
            ) v USING (pair_id)
            ORDER BY p.place, p.place_row
            """,
        )


def _placed(files: list[Path]) -> str:
    each = parquet(files).removesuffix(")") + ", filename = '_place', file_row_number = true)"
    return (
        "SELECT * EXCLUDE (_place, file_row_number), _place AS place, "
        f"file_row_number AS place_row FROM {each}"
    )


def _source(name: str, kind: str, found: list[str]) -> str:
    column = SOURCE_PREFIX + name
    return f"TRY_CAST(p.{quoted(column)} AS {kind})" if column in found else f"CAST(NULL AS {kind})"


def absent_images(store: Store, image_ids: pa.ChunkedArray) -> list[str]:
    """Those of the ids that the store's images table does not hold, sorted."""
    with connect(store) as con:
        con.register("wanted", pa.table({"image_id": image_ids}))
        absent = fetch(
            con, "SELECT DISTINCT image_id FROM wanted ANTI JOIN images USING (image_id) ORDER BY 1"
        )
    return list(absent[0].to_pylist())


def images_fingerprint(store: Store) -> str:
    """sha256 over every image_id with its content hash: the images without reading them again."""
    digest = hashlib.sha256()
    with connect(store) as con:
        rows = fetch(con, "SELECT image_id, content_hash FROM images ORDER BY ALL")
    for batch in rows.to_batches():
        for image_id, content in zip(*(column.to_pylist() for column in batch), strict=True):
            digest.update(f"{image_id}\x1f{content}\x1e".encode())
    return digest.hexdigest()
