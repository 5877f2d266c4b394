"""Any table of pairs that says which side won: words, a winner's name, scores or votes a side.

A row has two images and one of: a column of words (leftvote, A, same, 1 and -1, a model's name),
image_0's share, two columns of scores, two columns of counts, or the answers in Label Studio's and
Argilla's JSON. Columns that no option names are found by the names that public sets use. Further
axes are judged in the same ways.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple

from toolkit.errors import InputError
from toolkit.ingest.annotation_json import unpacked
from toolkit.ingest.choices import (
    NOTHING,
    Answer,
    Choice,
    Words,
    by_counts,
    by_scores,
    by_share,
    number_of,
    parse_map,
    share_of,
    word_of,
)
from toolkit.ingest.sides import (
    PROBLEM,
    Read,
    Row,
    Sides,
    SidesOptions,
    cell,
    column_of,
    find_sides,
    need,
    two,
)
from toolkit.ingest.source import (
    AxisLabel,
    Opened,
    PairOptions,
    Source,
    SourceRow,
    Vote,
    as_batches,
    utc,
)
from toolkit.ingest.tabular import (
    Table,
    checked_folder,
    count_rows,
    find_tables,
    records,
    rejected_rows,
    unread_votes,
)
from toolkit.ingest.writer import open_pairs
from toolkit.store.images import real_path

SHARE = "label_0"
"""A column of this name is image_0's share, as in Pick-a-Pic and the scripts of diffusers."""
CHOICES = (
    *("vote_type", "choice", "vote", "winner", "preference", "preferred", "pref"),
    *("Overall", "overall"),
)
ANNOTATORS = ("annotator", "annotator_id", "user_id", "user", "worker_id", "rater", "participant")
TIMES = ("created_at", "time", "timestamp")


@dataclass(frozen=True, kw_only=True)
class PairwiseOptions(SidesOptions):
    """Options of `outvoted ingest pairwise`; one of the first four says who won."""

    choice_column: Annotated[str | None, "Column of words that say which image won."] = None
    share_column: Annotated[str | None, "Column of image_0's share, from 0 to 1."] = None
    score_columns: Annotated[str | None, "A score a side, as in left,right; higher wins."] = None
    count_columns: Annotated[str | None, "Votes a side, as in left,right."] = None
    axis: Annotated[
        Sequence[str],
        "NAME=COLUMN of words or NAME=LEFT,RIGHT of scores, a label set each; repeatable.",
    ] = ()
    annotator_column: Annotated[str | None, "Column of the annotator."] = None
    time_column: Annotated[str | None, "Column of the vote's time."] = None
    trust_column: Annotated[str | None, "Column of the trust in the vote, 0 or more."] = None


class Judged(NamedTuple):
    """How one axis is judged: in which way, and by which columns."""

    way: Literal["words", "share", "scores", "counts", "answers", "people"]
    columns: tuple[str, ...]
    words: Words | None = None

    def spoken(self, row: Row) -> list[Answer]:
        """The words of a row on this axis: one, or each person's."""
        if self.way == "answers":
            return cell(row, self.columns[0]) or []
        if self.way == "people":
            return [Answer(cell(row, name), name) for name in self.columns]
        return [Answer(cell(row, self.columns[0]))] if self.words else []

    def choice(self, row: Row, names: Sequence[Any]) -> Choice:
        """What the row says, where it is one choice."""
        cells = [cell(row, name) for name in self.columns]
        if self.words is not None:
            return self.words(cells[0], names)
        if self.way == "share":
            return by_share(cells[0], self.columns[0])
        compared = by_scores if self.way == "scores" else by_counts
        return compared(cells[0], cells[1], self.columns)


SEVERAL = ("answers", "people")
"""Ways in which a row has several people's words."""


@dataclass(frozen=True)
class Layout:
    """How the rows of one table are read."""

    sides: Sides
    axes: Mapping[str | None, Judged]
    """Axis -> how it is judged; None: the label."""
    annotator: str | None = None
    time: str | None = None
    trust: str | None = None
    read: Read = records

    @property
    def read_names(self) -> list[str]:
        """Columns that are read as votes."""
        names = [name for judged in self.axes.values() for name in judged.columns]
        return [*names, *(name for name in (self.annotator, self.time, self.trust) if name)]


def open_pairwise(options: PairwiseOptions) -> Opened:
    """Find and check the tables, and every word in them. InputError (one sentence) otherwise."""
    tables = find_tables(
        options.paths, what="a table of pairs", shard=options.part, encoding=options.encoding
    )
    return open_layouts(PAIRWISE, options, [layout_of(table, options) for table in tables])


PAIRWISE = Source(
    "pairwise",
    "Any table of two images and who won",
    PairwiseOptions,
    open_pairwise,
    stored_as="pairwise",
    safe_columns=("model_0", "model_1"),
    details=(
        "words (leftvote, A, same, 1 and -1, a model's name), shares, scores or votes a side; "
        "Label Studio's and Argilla's JSON"
    ),
    cards=(
        *("diffusers_dpo", "genai_bench", "editreward_data", "videogen_rewardbench"),
        "label_studio",
    ),
)


def open_layouts(source: Source[Any], options: SidesOptions, layouts: Sequence[Layout]) -> Opened:
    """Tables whose columns are known, as an opened source. InputError on words that are not."""
    checked_folder(options.images_dir)
    for layout in layouts:
        check_words(layout)
    types = {name: kind for layout in layouts for name, kind in layout.sides.types.items()}

    def rows() -> Iterator[SourceRow]:
        every = (
            pair_row(layout, options, number, row)
            for layout in layouts
            for number, row in layout.read(layout.sides.table, layout.sides.read)
        )
        return islice(every, options.limit)

    return open_pairs(
        source.name,
        options,
        lambda: as_batches(rows(), options, types=types),
        rows=count_rows([layout.sides.table for layout in layouts]),
        personal=tuple({layout.annotator for layout in layouts if layout.annotator}),
        notes=unread_votes(
            [layout.sides.table for layout in layouts],
            [name for layout in layouts for name in layout.read_names],
        ),
        labels_are_votes=True,
    )


def layout_of(table: Table, options: PairwiseOptions, read: Read = records) -> Layout:
    """The columns of a table that say who won, on every axis. InputError where they are unclear."""
    questions: tuple[str, ...] = ()
    if task := unpacked(table):
        table, questions, read = task
    sides = find_sides(table, options)
    known = parse_map(options.map)
    named = options.name_columns is not None

    def words(column: str) -> Judged:
        way: Literal["words", "answers"] = "answers" if column in questions else "words"
        return Judged(way, (column,), Words(column, known, sides.images, names_first=named))

    usual = questions or (*CHOICES, SHARE)
    axes: dict[str | None, Judged] = {None: _label(table, options, words, usual)}
    for text in options.axis:
        name, _, columns = (part.strip() for part in text.partition("="))
        if not name or not columns:
            raise InputError(f"--axis is {text!r}; write NAME=COLUMN or NAME=LEFT,RIGHT.")
        scores = two(columns, "axis") if "," in columns else None
        axes[name] = Judged("scores", scores) if scores else words(columns)
    for judged in axes.values():
        need(table, judged.columns, "name others by option")
    asked = (options.annotator_column, options.time_column, options.trust_column)
    need(table, asked, "name others by option")
    there = table.schema.names
    annotator = asked[0] or next((name for name in ANNOTATORS if name in there), None)
    time = asked[1] or next((name for name in TIMES if name in there), None)
    return Layout(sides, axes, annotator, time, asked[2], read)


def _label(
    table: Table,
    options: PairwiseOptions,
    words: Callable[[str], Judged],
    usual: Sequence[str],
) -> Judged:
    """How the label is judged: as an option says, or by the one column of a usual name."""
    ways = "--choice-column, --share-column, --score-columns or --count-columns"
    asked: list[Judged] = []
    if options.choice_column:
        asked.append(words(options.choice_column))
    if options.share_column:
        asked.append(Judged("share", (options.share_column,)))
    if scores := two(options.score_columns, "score-columns"):
        asked.append(Judged("scores", scores))
    if counts := two(options.count_columns, "count-columns"):
        asked.append(Judged("counts", counts))
    if len(asked) > 1:
        raise InputError(f"{len(asked)} of {ways} are given; give one, and the others as --axis.")
    if asked:
        return asked[0]
    there = table.schema.names
    could = [name for name in usual if name in there]
    if len(could) != 1:
        several = f"several columns that could say which image won ({', '.join(could)})"
        none = f"no column of a usual name for which image won (found: {', '.join(there)})"
        raise InputError(f"{table.path} has {several if could else none}; name one with {ways}.")
    return Judged("share", (SHARE,)) if could == [SHARE] else words(could[0])


def check_words(layout: Layout) -> None:
    """InputError where a column has words that are not understood; reads those columns alone."""
    table, sides = layout.sides.table, layout.sides
    spoken = [(judged, judged.words) for judged in layout.axes.values() if judged.words]
    if not spoken:
        return
    names = [name for judged, _ in spoken for name in judged.columns] + [*(sides.names or ())]
    columns = list(dict.fromkeys(column_of(table, name) for name in names))
    with rejected_rows():  # they are quarantined when the pairs are read
        for _, row in layout.read(table, columns):
            called = sides.called(row)
            for judged, words in spoken:
                for answer in judged.spoken(row):
                    words.count(answer.word, called)
    for _, words in spoken:
        words.check(table.path)


def pair_row(layout: Layout, options: PairOptions, number: int, row: dict[str, Any]) -> SourceRow:
    """One row as a pair, with a vote for every word in it and for every known annotator."""
    sides = layout.sides
    annotator = word_of(cell(row, layout.annotator)) if layout.annotator else None
    time = utc(cell(row, layout.time)) if layout.time else None
    trust = number_of(cell(row, layout.trust)) if layout.trust else None
    votes: list[Vote] = []
    labels: dict[str | None, AxisLabel] = {}
    problems: list[str] = [row[PROBLEM]] if PROBLEM in row else []
    for axis, judged in layout.axes.items():
        label, given, problem = _axis(
            judged, row, sides.called(row), (annotator, time, trust), axis
        )
        labels[axis] = label
        votes += given
        problems += [problem] if problem else []
    label = labels.pop(None)
    stamp = time.isoformat() if annotator and time else None
    people = {
        name for judged in layout.axes.values() if judged.way in SEVERAL for name in judged.columns
    }
    return SourceRow(
        prompt=sides.text(row),
        image_0=sides.image(0, number, row),
        image_1=sides.image(1, number, row),
        label=label.label,
        label_weight=label.weight,
        axes=labels,  # type: ignore[arg-type]
        split=options.split or word_of(row.get("split")) or sides.table.split,
        time=time,
        votes=tuple(votes),
        extra={
            name: value for name, value in sides.extra(number, row).items() if name not in people
        },
        distinguishing=tuple(filter(None, (annotator, stamp))),
        source_file=real_path(sides.table.path),
        source_row=number,
        problem=problems[0] if problems else None,
    )


def _axis(
    judged: Judged,
    row: Row,
    names: Sequence[Any],
    by: tuple[str | None, datetime | None, float | None],
    axis: str | None,
) -> tuple[AxisLabel, list[Vote], str | None]:
    """The row's label on an axis, the votes behind it, and what is wrong with it."""
    annotator, time, trust = by
    if judged.way not in SEVERAL:
        choice = judged.choice(row, names)
        label = AxisLabel(choice.label, choice.weight)
        if choice.label is None or not (annotator or judged.words):
            return label, [], choice.problem
        vote = Vote(choice.label, annotator, time, axis, trust, choice.grade, choice.both_are)
        return label, [vote], None
    votes = []
    for answer in judged.spoken(row):
        choice = judged.words(answer.word, names) if judged.words else NOTHING
        if choice.problem:
            return AxisLabel(None), [], choice.problem
        if choice.label is not None:
            when = utc(answer.time)
            votes.append(
                Vote(
                    choice.label, answer.annotator, when, axis, None, choice.grade, choice.both_are
                )
            )
    return share_of(votes), votes, None
