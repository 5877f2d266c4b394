"""Arrow schemas whose columns carry their own meaning and unit.

The text of a column lives in its field's metadata and nowhere else, so that documentation,
data cards and tests all read the same words.
"""

import pyarrow as pa

MEANING = b"meaning"
SPAN, WHOLE_RUN = b"span", b"run"
"""Metadata of a score that is the same in every window of a run."""


def column(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = True) -> pa.Field:
    """A field with its meaning (one sentence, with the unit) attached."""
    return pa.field(name, kind, nullable=nullable, metadata={MEANING: meaning.encode()})


def meaning_of(field: pa.Field) -> str:
    """The sentence that `column` attached, or an empty string."""
    return (field.metadata or {}).get(MEANING, b"").decode()


def conform(table: pa.Table, schema: pa.Schema, *, keep_extra: bool = False) -> pa.Table:
    """`table` with exactly the schema's columns, cast; absent nullable ones become null.

    With `keep_extra` further columns follow behind, as they are.
    Raises KeyError for an absent column that may not be null.
    """
    arrays, fields = [], []
    for field in schema:
        if field.name in table.column_names:
            arrays.append(table[field.name].cast(field.type))
        elif field.nullable:
            arrays.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
        else:
            raise KeyError(field.name)
        fields.append(field)
    if keep_extra:
        known = set(schema.names)
        for field in table.schema:
            if field.name not in known:
                arrays.append(table[field.name])
                fields.append(field)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
