"""Outvoted from Python: open a store, take its pairs as a table, detect, plot, record, export.

    import outvoted as ov

    s = ov.open("S")
    df = s.pairs(labels="flip20", run="first", columns=["minority", "is_flipped", "prompt"])
    ov.detect(df, score="minority", flipped="is_flipped", group="prompt")
    ov.plot.minority_histogram(df)

The command line does what this module does. Tables are pyarrow's: `.to_pandas()` makes a pandas
frame, and polars reads them without a copy. `ov.detectors`, `ov.detect` and `ov.plot` take
anybody's arrays and frames (pandas, polars, Arrow), with or without a store. What goes wrong is
an `ov.OutvotedError` whose text says what was found, what is allowed and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import InputError, OutvotedError
from toolkit.progress import SILENT, Progress
from toolkit.store.layout import Store as StoreFolder
from toolkit.store.layout import create_store, open_store

if TYPE_CHECKING:
    import pyarrow as pa

    from analysis.detectors import arrays as detectors
    from analysis.frames import detect
    from analysis.run_analysis import Analysis
    from toolkit.export import Outcome
    from toolkit.labels import Made
    from toolkit.store.integrity import CheckReport
    from toolkit.store.record import RunRecorder

__all__ = [
    "InputError",
    "LabelSets",
    "OutvotedError",
    "Store",
    "create",
    "detect",
    "detectors",
    "open",
    "plot",
]

ORIGINAL = "original"


def open(path: str | Path) -> Store:
    """Open a store: a folder, or a URL such as s3://BUCKET/S. StoreError where there is none."""
    return Store(open_store(path))


def create(path: str | Path) -> Store:
    """Create an empty store. StoreError where the folder is not empty."""
    return Store(create_store(path))


class Store:
    """A store of preference pairs. Made by `open` and `create`; keeps no connection open."""

    def __init__(self, store: StoreFolder) -> None:
        self.store = store

    def __repr__(self) -> str:
        return f"outvoted.open({str(self.store.root)!r})"

    @property
    def runs(self) -> list[str]:
        """Names of the runs, sorted."""
        return self.store.runs()

    @property
    def labels(self) -> LabelSets:
        """The label sets: list them, or make one."""
        return LabelSets(self.store)

    def pairs(
        self,
        *,
        labels: str = ORIGINAL,
        run: str | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
    ) -> pa.Table:
        """One row a pair, in the store's order: pair_id, then `columns`.

        Columns are those that a condition can name: the source's own, label (under the set
        `labels`), original_label, is_flipped (the two differ), votes, annotator, verdict; with a
        `run`, its minority, confidence and stability, and FINDING.COLUMN of its other findings;
        SCORER.gap of a scorer. `where` is a condition such as 'votes > 1 and verdict is null'.
        A score is null where the pair's label differs from the one that it was computed under.
        InputError lists the columns where a name is unknown.
        """
        from toolkit.store.pair_table import pair_table

        return pair_table(self.store, labels=labels, run=run, columns=columns, where=where)

    def column_kinds(self, *, labels: str = ORIGINAL, run: str | None = None) -> dict[str, str]:
        """What `pairs` can return and conditions can name: name -> number, text, flag or time."""
        from toolkit.store.pair_table import column_kinds

        return dict(column_kinds(self.store, labels=labels, run=run))

    def votes(self) -> pa.Table:
        """pair_id, annotator and choice (1 image_0, 0 image_1, .5 tie) of every vote."""
        from toolkit.store.trajectory import read_votes

        return read_votes(self.store)

    def findings(self, run: str = "") -> list[str]:
        """Names of a run's findings; without one, of those that need none."""
        from toolkit.store.runs import findings

        return findings(self.store, run)

    def trajectory(
        self, run: str, columns: Sequence[str] | None = None, *, labels: str = ORIGINAL
    ) -> pa.Table:
        """A run's rows, one a pair, visit and draw, with each pair's label in a set beside them.

        Columns: see `toolkit.recorder.TRAJECTORY`, all by default; `set_label` is added.
        """
        from toolkit.recorder import TRAJECTORY
        from toolkit.store.trajectory import read_trajectory

        return read_trajectory(self.store, run, columns or TRAJECTORY.names, label_set=labels)

    def ingest(self, kind: str, *paths: Any, progress: Progress = SILENT, **options: Any) -> Any:
        """Read pairs or votes from a source of `kind` (`toolkit.ingest.SOURCES`).

        Options are those of `outvoted ingest KIND`, with underscores. Ingesting the same source
        again changes nothing. Returns a `toolkit.ingest.Summary`, or what else the source reports.
        """
        from toolkit.ingest import ingest

        return ingest(self.store, kind, *paths, progress=progress, **options)

    def record(
        self, run: str, *, models: Sequence[str] = ("policy",), **options: Any
    ) -> AbstractContextManager[RunRecorder]:
        """Record a run of your own training loop; arguments: see `toolkit.store.record.record`.

        with s.record("mine", models=["policy"]) as recorder:
            recorder.append(pair_id=ids, step=step, timestep=t, err_chosen=..., err_rejected=...,
                            err_ref_chosen=..., err_ref_rejected=...)
        """
        from toolkit.store.record import record

        return record(self.store, run, models=models, **options)

    def analyze(
        self, run: str = "", *, report: str | Path | None = None, **options: Any
    ) -> Analysis:
        """Run every diagnostic, store the findings, and write the report where one is named.

        Without a run: those that look at labels, votes, scores and images alone.

        Options: see `analysis.run_analysis.analyze_run`.
        """
        from analysis.run_analysis import analyze_run

        analysis = analyze_run(self.store, run, **options)
        if report is not None:
            from analysis.report.page import write_report

            write_report(analysis, report)
        return analysis

    def export(
        self,
        out: str | Path,
        *,
        format: str = "pickapic",
        progress: Progress = SILENT,
        **options: Any,
    ) -> Outcome:
        """Write a curated set to the new folder `out`; returns what was kept, flipped and dropped.

        `format`: a key of `toolkit.export.FORMATS`. Options: fields of
        `toolkit.export.policy.Policy` (drop="minority > 0.5", where, flip, labels, run,
        reweight ...) and of the format. Conditions on scores use the newest run unless `run` is
        given.
        """
        from toolkit.export import export_set

        return export_set(self.store, out, form=format, progress=progress, **options)

    def check(self, **options: Any) -> CheckReport:
        """Verify every part, hash and key; options: see `toolkit.store.integrity.check_store`."""
        from toolkit.store.integrity import check_store

        return check_store(self.store, **options)


class LabelSets:
    """A store's label sets; iterates over their names.

    Each maker in `toolkit.labels.LABEL_MAKERS` is a method that makes a set and returns counts:
    `s.labels.majority(min_votes=3, name="majority3")`.
    """

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder

    @property
    def names(self) -> list[str]:
        """Names of the label sets, `original` first."""
        from toolkit.store.label_sets import label_sets

        return label_sets(self._folder)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"LabelSets({', '.join(self)})"

    def recipe(self, name: str) -> dict[str, Any]:
        """How a set was made."""
        from toolkit.store.label_sets import label_set_recipe

        return label_set_recipe(self._folder, name)

    def flip(self, rate: float = 0.2, *, seed: int = 0, **options: Any) -> Made:
        """Plant flips: reverse this share of the labels, in a new set; the originals stay.

        `name` and `base` are options of every maker; see also `outvoted flip`.
        """
        return self._make("flip", rate=rate, seed=seed, **options)

    def __getattr__(self, kind: str) -> Callable[..., Made]:
        from toolkit.labels import LABEL_MAKERS

        if kind.replace("_", "-") not in LABEL_MAKERS:
            raise AttributeError(
                f"There is no label maker {kind!r}; the makers are {', '.join(LABEL_MAKERS)}."
            )
        return lambda *arguments, **options: self._make(kind, *arguments, **options)

    def __dir__(self) -> list[str]:
        from toolkit.labels import LABEL_MAKERS

        return [*super().__dir__(), *(name.replace("-", "_") for name in LABEL_MAKERS)]

    def _make(
        self,
        kind: str,
        *arguments: Any,
        name: str | None = None,
        base: str = ORIGINAL,
        **options: Any,
    ) -> Made:
        from toolkit.labels import LABEL_MAKERS

        maker = LABEL_MAKERS[kind.replace("_", "-")]
        name = name or maker.default_name
        if name is None:
            raise InputError(f"{kind} needs a name for its label set; pass name=.")
        return maker(self._folder, name, *arguments, base=base, **options)


class _Plot:
    """The figures of `analysis.figures`: `plot.NAME(frame)` draws NAME_figure with plotly."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        from analysis import figures

        figure = getattr(figures, f"{name}_figure", None)
        if figure is None:
            raise AttributeError(f"There is no figure {name!r}; choose one of {self.__dir__()}.")
        return figure  # type: ignore[no-any-return]

    def __dir__(self) -> list[str]:
        from analysis import figures

        return sorted(n.removesuffix("_figure") for n in figures.__all__ if n.endswith("_figure"))


plot = _Plot()


def __getattr__(name: str) -> Any:
    if name == "detectors":  # numpy, scipy and polars are imported when first used
        from analysis.detectors import arrays

        return arrays
    if name == "detect":
        from analysis.frames import detect

        return detect
    raise AttributeError(f"module 'outvoted' has no attribute {name!r}")
