"""What a source is made of: its entry in `SOURCES`, its options, and the rows it gives the writer.

To add a source, write a file here with an options class, a function that opens it and an entry,

    @dataclass(frozen=True)
    class MineOptions(PairOptions):                  # `toolkit.options` says how they are declared
        paths: Annotated[Sequence[str | Path], "Files, or folders of them."]
        _: KW_ONLY
        prompt_column: Annotated[str, "Column of the prompt."] = "text"

    def open_mine(options: MineOptions) -> Opened:
        tables = find_tables(options.paths)          # InputError (one sentence) on a bad file
        return open_pairs("mine", options, lambda: as_batches(rows(tables), options))

    MINE = Source("mine", "What it reads", MineOptions, open_mine, stored_as="mine")

and name MINE in the tuple in `toolkit.ingest`. `outvoted ingest mine`, its options and `--help`,
`ingest(store, "mine", ...)` and the README's table follow from the entry.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
)

import pyarrow as pa
import pyarrow.compute as pc

from toolkit.errors import InputError, OutvotedError
from toolkit.options import MISSING, check_options, either, options_of
from toolkit.progress import Progress
from toolkit.schema import (
    AXIS,
    AXIS_WEIGHT,
    EXPORTED,
    LABEL,
    STATED,
    VOTES,
    WEIGHT,
    as_column,
    column,
    conform,
)
from toolkit.sharding import Shard, read_shard
from toolkit.store import Store

SPLITS = ("train", "validation", "test")

ImageMode = Literal["copy", "reference"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of every source's options. InputError on a value that is not allowed."""

    def __post_init__(self) -> None:
        check_options(type(self), self.__dict__)


@dataclass(frozen=True, kw_only=True)
class PairOptions(Options):
    """Options of every source that gives pairs."""

    images: Annotated[
        ImageMode, "copy: into the store, decoded and checked; reference: leave them in place."
    ] = "copy"
    limit: Annotated[int | None, "Read only the first N rows.", (1, 10**9)] = None
    split: Annotated[str | None, "train, validation or test; default: what the source says."] = None
    pseudonyms: Annotated[bool, "Store keyed pseudonyms instead of annotators' names."] = False
    shard: Annotated[
        str | None, "i/n: read shard i of n (0-based); run the n shards at once or in turn."
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split is not None and self.split not in SPLITS:
            raise InputError(f"--split is {self.split!r}; it must be {either(SPLITS)}.")
        read_shard(self.shard)

    @property
    def part(self) -> Shard | None:
        """The shard to read; None: the whole source."""
        return read_shard(self.shard)


OUTSIDE = "Also take in files that the source names outside its folder."
ENCODING = "Encoding of text files, such as cp1252; default: their byte order mark's, or UTF-8."


@dataclass(frozen=True)
class ListOptions(PairOptions):
    """Options of sources whose files name images by paths."""

    paths: Annotated[Sequence[str | Path], "Files, or folders of them."]
    _: KW_ONLY
    images_dir: Annotated[
        str | Path | None,
        "Folder where the paths in the files begin; default: each file's own folder.",
    ] = None
    allow_outside: Annotated[bool, OUTSIDE] = False
    encoding: Annotated[str | None, ENCODING] = None


class Report(Protocol):
    """What an ingest did."""

    def lines(self) -> list[str]:
        """The report as a person reads it, one fact a line."""


@dataclass(frozen=True)
class Opened:
    """A source whose files and columns were checked; no row has been read."""

    add: Callable[[Store, Progress], Any]
    """Adds the source to a store, reports progress, and returns a `Report`."""
    rows: int | None = None
    """How many rows there are to read (of the shard, where there is one); None: not known."""


AnyOptions = TypeVar("AnyOptions", bound=Options)


@dataclass(frozen=True)
class Source(Generic[AnyOptions]):
    """An entry of `SOURCES`."""

    name: str
    """What to type after `outvoted ingest`."""
    summary: str
    """What it reads, in at most 55 characters: its line in `outvoted ingest --help`."""
    options: type[AnyOptions]
    open: Callable[[AnyOptions], Opened]
    """InputError (one sentence) where the files or the options cannot be used."""
    stored_as: str | None = None
    """Value of the pairs' column `source`; None where the source adds no pairs."""
    details: str = ""
    """More about what it reads, for its own `--help` and the README's table."""
    safe_columns: tuple[str, ...] = ()
    """Its own columns that are known to name nobody, which exports contain by default."""
    cards: tuple[str, ...] = ()
    """Data cards (data_cards/NAME.md) that describe its files and the command that reads them."""

    @property
    def about(self) -> str:
        """Summary and details, without a full stop."""
        return ": ".join(filter(None, (self.summary, self.details)))

    @property
    def makes_store(self) -> bool:
        """Whether it may start a store; else it adds to pairs that are there."""
        return self.stored_as is not None

    def read_options(self, *arguments: Any, **given: Any) -> AnyOptions:
        """The options, from a call. InputError on unknown, missing or wrong ones."""
        known = options_of(self.options)
        positions = [name for name, option in known.items() if option.argument]
        if len(arguments) > len(positions):
            raise InputError(f"{self.name} takes {', '.join(positions)} by position, and no more.")
        given = dict(zip(positions, arguments, strict=False)) | given
        for name in given:
            if name not in known:
                raise InputError(f"{self.name} has no option {name!r}; it has {', '.join(known)}.")
        for name, option in known.items():
            if name not in given and option.default is MISSING:
                raise InputError(f"{self.name} needs {name}: {option.help}")
        if isinstance(given.get("shard"), Shard):
            given["shard"] = str(given["shard"])
        if "paths" in given and not isinstance(given["paths"], list | tuple):
            given["paths"] = [given["paths"]]
        return self.options(**given)


class Reference(NamedTuple):
    """Where an encoded image is stored: in a file of its own, or in a cell of a Parquet file."""

    file: str
    """Absolute path."""
    row: int | None = None
    """Row in that file; None where the file is the image."""
    column: str | None = None


ImageData: TypeAlias = "bytes | Reference | None"
"""An encoded image, or where it is. None: the source has its name only, and the pair comes in
without this image."""


@dataclass(frozen=True)
class SourceImage:
    """One side of a pair. Without a uid the image is named by the sha256 of its bytes."""

    uid: str | None
    data: ImageData = None
    problem: str | None = None
    """Why the image cannot be taken in; its row is quarantined."""


@dataclass(frozen=True)
class Vote:
    """One person's choice on a pair."""

    choice: float
    """1: image_0, 0: image_1, .5: a tie; between: a graded choice."""
    annotator: str | None = None
    """None: nobody in particular."""
    time: datetime | None = None
    axis: str | None = None
    """What was judged, such as alignment; None: which image is preferred overall."""
    weight: float | None = None
    """Trust in the vote, 0 or more."""
    grade: str | None = None
    """The answer in the source's own words or number."""
    both_are: Literal["good", "bad"] | None = None
    """What a tie says of both images, where it says so."""


class AxisLabel(NamedTuple):
    """A pair's label on one axis, and what it rests on."""

    label: float | None
    """As `SourceRow.label`."""
    weight: float | None = None
    """As `SourceRow.label_weight`."""


@dataclass(frozen=True)
class SourceRow:
    """One pair as a source states it, images in the source's order."""

    prompt: str | None
    image_0: SourceImage
    image_1: SourceImage
    label: float | None
    """The preference for image_0, from 0 to 1: 1 image_0, 0 image_1, .5 a tie, .7 seven of ten.
    None: unlabelled; anything else is a fault."""
    split: str | None = None
    annotator: str | None = None
    time: datetime | None = None
    """When the vote was given; without a time zone it is read as UTC."""
    votes: tuple[Vote, ...] = ()
    """Further votes on the pair, where the source has more than the one of `annotator`."""
    label_weight: float | None = None
    """How many votes, or how much trust, the label rests on: 0 or more."""
    axes: Mapping[str, AxisLabel] = field(default_factory=dict)
    """Labels on further axes by name; each axis becomes a label set of that name."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The source's own columns, without the prefix src_ that they get in the store. A
    `SourceImage` is kept as an image, and the column has its id."""
    distinguishing: tuple[str, ...] = ()
    """What distinguishes the row from others on the same prompt and images: ranking, annotator."""
    source_file: str | None = None
    source_row: int | None = None
    problem: str | None = None
    """What the source itself finds wrong with the row; such a row is quarantined."""


ROWS = pa.schema(
    [
        column("prompt", pa.string(), "the text both images were made from"),
        column("image_0", pa.string(), "uid of the first image; null: the sha256 of its bytes"),
        column("image_1", pa.string(), "uid of the second image; null: the sha256 of its bytes"),
        column("label", pa.float64(), LABEL),
        column("label_weight", pa.float64(), WEIGHT),
        column("split", pa.string(), "train, validation or test, as the source says"),
        column("annotator", pa.string(), "who gave the label; null: nobody known"),
        column("time", pa.timestamp("us", tz="UTC"), "when the label was given"),
        column("problem", pa.string(), "what the source finds wrong with the row, or null"),
        column("source_file", pa.string(), "where the row was read"),
        column("source_row", pa.int64(), "row in that file"),
    ]
)
"""The columns of a batch."""

BATCH_VOTES = pa.schema(
    [column("row", pa.int64(), "number of the row in its batch", nullable=False), *list(VOTES)[1:]]
)
"""Further votes of a batch: the row that each is on, then the columns of `VOTES`."""


@dataclass(frozen=True)
class Batch:
    """N rows of a source by columns: what every source gives to the writer."""

    rows: pa.Table
    """N rows with the columns of `ROWS`."""
    distinguishing: Sequence[tuple[str, ...]]
    """N, as in `SourceRow`."""
    extra: pa.Table
    """N rows of the source's own columns."""
    images: tuple[Sequence[ImageData], Sequence[ImageData]] | None = None
    """N of image_0 and N of image_1; None where the source has names only."""
    votes: pa.Table | None = None
    """Further votes on the rows, with the columns of `BATCH_VOTES`."""
    axes: Mapping[str, pa.Table] = field(default_factory=dict)
    """Axis -> N rows of label and label_weight; a row without a label on the axis has null."""
    beside: Mapping[str, Sequence[SourceImage | None]] = field(default_factory=dict)
    """Column -> N images that are no side of their pair: the column will have their ids."""


def as_exported(batch: Batch, options: PairOptions | None) -> Batch:
    """The batch as our own export states it, where its table is one: grade, weight, split, axes."""
    cells = {name: batch.extra[name] for name in batch.extra.column_names}
    if not cells.keys() >= {*EXPORTED, *STATED[:2]}:
        return batch

    def numbers(name: str) -> Any:
        values = cells.get(name, pa.nulls(rows.num_rows))
        return values.cast(pa.float64())

    rows = batch.rows
    read = pc.is_null(rows["problem"])
    stated = {name: pc.if_else(read, numbers(name), rows[name]) for name in STATED[:2]}
    if "split" in cells and (options is None or options.split is None):
        stated["split"] = pc.coalesce(cells["split"].cast(pa.string()), rows["split"])
    labels = [name for name in cells if name.startswith(AXIS) and AXIS_WEIGHT not in name]
    weights = [name.replace(AXIS, AXIS_WEIGHT, 1) for name in labels]
    axes = {
        label.removeprefix(AXIS): pa.table([numbers(label), numbers(weight)], names=STATED[:2])
        for label, weight in zip(labels, weights, strict=True)
    }
    own = {name: stated.get(name, rows[name]) for name in rows.column_names}
    left = [name for name in cells if name not in STATED and not name.startswith(AXIS)]
    own_rows = conform(pa.table(own), ROWS)
    return replace(batch, rows=own_rows, axes=axes, extra=batch.extra.select(left))


class Cells(Sequence[ImageData]):
    """References to the cells of one column, from row `first` on; each is made when it is used."""

    def __init__(self, file: str, first: int, name: str, count: int) -> None:
        self._file, self._first, self._name, self._count = file, first, name, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        return Reference(self._file, self._first + place, self._name)


def as_batches(
    rows: Iterable[SourceRow],
    options: PairOptions | None = None,
    *,
    types: Mapping[str, pa.DataType] | None = None,
) -> Iterator[Batch]:
    """Batches from rows one by one; where `rows` fails, those before the failure come first.

    `types` fixes Arrow types of the source's own columns; the others are inferred.
    """
    size = 2000 if options is not None and options.images == "reference" else 64
    left = iter(rows)
    while True:
        chunk: list[SourceRow] = []
        try:
            for row in islice(left, size):
                chunk.append(row)
        except OutvotedError:
            if chunk:
                yield as_exported(_batch(chunk, types or {}), options)
            raise
        if not chunk:
            return
        yield as_exported(_batch(chunk, types or {}), options)


def _checked(row: SourceRow) -> SourceRow:
    """The row; one with a fault that no column can hold comes with the problem alone."""
    problem = row.problem
    for slot, image in enumerate((row.image_0, row.image_1)):
        if image.problem and not problem:
            problem = f"image_{slot}: {image.problem}"
    if row.prompt is not None and not isinstance(row.prompt, str):
        problem = problem or f"the prompt is no text (it is {str(row.prompt)[:60]})"
        row = replace(row, prompt=None)
    try:
        for time in (row.time, *(vote.time for vote in row.votes)):
            utc(time)
    except OverflowError:
        problem = problem or "the time is out of range"
        row = replace(row, time=None, votes=())
    return row if problem == row.problem else replace(row, problem=problem)


def _batch(rows: list[SourceRow], types: Mapping[str, pa.DataType]) -> Batch:
    rows = [_checked(row) for row in rows]
    own: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in ROWS.names}
    sides = [[getattr(row, slot) for row in rows] for slot in ("image_0", "image_1")]
    own |= {f"image_{slot}": [image.uid for image in side] for slot, side in enumerate(sides)}
    own["time"] = [utc(time) for time in own["time"]]
    names = dict.fromkeys(name for row in rows for name in row.extra)
    columns = {name: [row.extra.get(name) for row in rows] for name in names}
    beside = {n: v for n, v in columns.items() if any(isinstance(x, SourceImage) for x in v)}
    extra = {n: as_column(v, types.get(n)) for n, v in columns.items() if n not in beside}
    return Batch(
        rows=pa.table(own, schema=ROWS),
        distinguishing=[row.distinguishing for row in rows],
        extra=pa.table(extra) if extra else no_columns(len(rows)),
        images=([image.data for image in sides[0]], [image.data for image in sides[1]]),
        votes=_votes(rows) if any(row.votes for row in rows) else None,
        axes={
            name: _axis(rows, name) for name in dict.fromkeys(n for row in rows for n in row.axes)
        },
        beside=beside,
    )


def _votes(rows: list[SourceRow]) -> pa.Table:
    names = BATCH_VOTES.names[1:]
    given = [(place, vote) for place, row in enumerate(rows) for vote in row.votes]
    columns = {name: [getattr(vote, name) for _, vote in given] for name in names}
    columns["time"] = [utc(time) for time in columns["time"]]
    return pa.table({"row": [place for place, _ in given], **columns}, schema=BATCH_VOTES)


def _axis(rows: list[SourceRow], name: str) -> pa.Table:
    labels = [row.axes.get(name, AxisLabel(None)) for row in rows]
    label, weight = (pa.array(values, pa.float64()) for values in zip(*labels, strict=True))
    return pa.table({"label": label, "label_weight": weight})


def no_columns(count: int) -> pa.Table:
    """A table of `count` rows without columns."""
    return pa.table({"": pa.nulls(count)}).select([])


def utc(value: object) -> datetime | None:
    """A time, or its ISO text, in UTC; without a zone it is read as UTC. None for anything else.

    OverflowError where it is before the year 1 or after 9999 in UTC.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
