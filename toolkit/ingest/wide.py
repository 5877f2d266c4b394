"""A table with a column a person: each cell is what that person said of the row's pair.

The label is the share of those who prefer image_0; empty cells are no votes.
"""

import re
from dataclasses import dataclass
from typing import Annotated

from toolkit.errors import InputError
from toolkit.ingest.choices import Words, parse_map
from toolkit.ingest.pairwise import Judged, Layout, open_layouts
from toolkit.ingest.sides import SidesOptions, find_sides
from toolkit.ingest.source import Opened, Source
from toolkit.ingest.tabular import Table, find_tables


@dataclass(frozen=True, kw_only=True)
class WideOptions(SidesOptions):
    """Options of `outvoted ingest wide`."""

    annotator_columns: Annotated[
        str, "The people's columns: names with commas, or a regular expression such as 'p[0-9]+'."
    ]


def open_wide(options: WideOptions) -> Opened:
    """Find the tables, the people's columns, and every word in them. InputError otherwise."""
    tables = find_tables(
        options.paths, what="a table of pairs", shard=options.part, encoding=options.encoding
    )
    return open_layouts(WIDE, options, [_layout(table, options) for table in tables])


WIDE = Source(
    "wide",
    "A table with a column for each annotator",
    WideOptions,
    open_wide,
    stored_as="wide",
    safe_columns=("model_0", "model_1"),
    details="each cell is a vote, in the words that `pairwise` knows or --map says",
    cards=("per_annotator_table",),
)


def _layout(table: Table, options: WideOptions) -> Layout:
    there, asked = table.schema.names, options.annotator_columns
    listed = [name.strip() for name in asked.split(",")]
    try:
        people = [n for n in there if n in listed or re.fullmatch(asked, n)]
    except re.error as problem:
        raise InputError(f"--annotator-columns is no regular expression ({problem}).") from problem
    sides = find_sides(table, options)
    people = [name for name in people if name not in sides.own]
    if not people:
        raise InputError(
            f"{table.path} has no column {asked} (found: {', '.join(there)}); name the people's "
            "columns with --annotator-columns."
        )
    words = Words(
        f"of {people[0]} and {len(people) - 1} others", parse_map(options.map), sides.images
    )
    return Layout(sides, {None: Judged("people", tuple(people), words)})
