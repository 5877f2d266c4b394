"""Ways out of a store: a curated set in one of FORMATS, complete or absent.

    OUT/...             the set, as its format lays it out
    OUT/curation.json   policy, decisions, balance, hashes
    OUT/README.md       dataset card

The same export of the same store is the same bytes. To add a format, write a file here with

    def schema(policy: Policy) -> pa.Schema: ...            # the columns that its card lists

    def write(job: Job, *, level: Annotated[int, "Help of the option.", (0, 9)] = 3) -> dict:
        for split, table in job.tables(columns.schema()):   # the kept pairs
            ...                                             # into job.aside
        return {"file": {"rows": ..., "sha256": ...}}

    FORMAT = Format("mine", "What it is.", schema, write, images="always")

and name it in the tuple below: it is a choice of `outvoted export --format`, and its options and
their help are options of that command.
"""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from toolkit.conditions import names
from toolkit.errors import InputError
from toolkit.export import kohya_format, parquet_formats, webdataset_format
from toolkit.export.dataset_writer import Format, Job, columns_of_source, write_text
from toolkit.export.decisions import Plan, make_plan
from toolkit.export.policy import Policy, weight_column
from toolkit.export.provenance import card_text, counts, curation, needs_card_library
from toolkit.export.table import SourceColumns
from toolkit.files.atomic import UNFINISHED, make_folder, sync_folder, unfinished_name, writer_of
from toolkit.files.remote import is_local, place
from toolkit.options import check_options
from toolkit.progress import SILENT, Progress
from toolkit.store import Store
from toolkit.store.images import absent_images, relinked_files
from toolkit.store.pair_table import column_kinds
from toolkit.store.pseudonyms import exported_ids
from toolkit.store.runs import findings, run_about

__all__ = ["FORMATS", "Format", "Outcome", "Policy", "export_set", "preview", "warnings_of"]

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        parquet_formats.PICKAPIC,
        parquet_formats.CHOSEN_REJECTED,
        webdataset_format.FORMAT,
        parquet_formats.OFFLINE_PAIRS,
        parquet_formats.WEIGHTS,
        kohya_format.FORMAT,
    )
}
"""Name -> format."""


@dataclass(frozen=True)
class Outcome:
    """What an export made, or would make."""

    out: Path | None
    """None for a preview."""
    counts: dict[str, Any]
    """As in curation.json."""
    source: SourceColumns
    """Which of the source's columns are exported, and which stay behind."""
    removed: tuple[str, ...] = ()
    """What killed exports had left beside the set."""

    def lines(self) -> list[str]:
        """The outcome as a person reads it."""
        counts = self.counts
        ties, open_ = counts["ties_left_out"], counts["unlabelled_left_out"]
        done = (
            (counts["flipped"], "flipped"),
            (counts["tied"], "made a tie"),
            (ties, "tie left out" if ties == 1 else "ties left out"),
            (open_, "without a label left out"),
            (counts["dropped"] - ties - open_, "dropped"),
            (counts["reweighted"], "with a weight other than 1"),
        )
        what = ", ".join(f"{n:,} {action}" for n, action in done if n) or "all as they were"
        first = f"{counts['after']['pairs']:,} of {counts['before']['pairs']:,} pairs: {what}."
        reasons = [f"{n:,} {why}" for why, n in self.counts["reasons"].items()]
        graded = (
            [
                f"{self.counts['graded']:,} labels are graded: label_0 is the side that each leans "
                "to, label the grade."
            ]
            if self.counts["graded"]
            else []
        )
        left = (
            [f"Removed what killed exports had left: {', '.join(self.removed)}."]
            if self.removed
            else []
        )
        return [first, *warnings_of(counts), *graded, *reasons, *self.source.lines(), *left]


def warnings_of(counts: dict[str, Any]) -> list[str]:
    """What nobody should overlook in an export, in sentences."""
    if not counts["planted"]:
        return []
    return [
        f"Warning: {counts['planted']:,} of these labels are wrong on purpose, planted flips of "
        f"the label set {counts['labels']}; --labels {counts['without_planted']} exports your own."
    ]


def preview(
    store: Store, policy: Policy | None = None, form: Format | str = "pickapic", **options: Any
) -> Outcome:
    """What `export_set` would do; writes nothing."""
    form = _format(form)
    policy = _fitting(policy or _policy(store, options), form)
    plan = make_plan(store, policy)
    return Outcome(None, counts(plan), columns_of_source(store, plan, policy, form))


def export_set(
    store: Store,
    out: str | Path,
    policy: Policy | None = None,
    form: Format | str = "pickapic",
    *,
    command: str | None = None,
    progress: Progress = SILENT,
    **options: Any,
) -> Outcome:
    """Write the set to the new folder `out`.

    Args:
        store: An opened store.
        out: The folder, which must not exist.
        policy: What happens to the pairs. Without it, `options` are its fields:
            `export_set(store, "out", drop="minority > 0.5")`. Without `run`, scores are those of
            the newest run with the finding.
        form: A format or its name in FORMATS.
        command: What curation.json shows as having been typed.
        progress: Reports the rows that were written.
        options: Options of the format, such as `shard_rows`, and fields of the policy.

    Raises:
        InputError: `out` exists; the policy contradicts itself or the format, or leaves nothing;
            an image is not available; or the disk refuses. Nothing is at `out` then.
    """
    out = _new_folder(out)
    form = _format(form)
    own = {k: options.pop(k) for k in form.write.__kwdefaults__ or () if k in options}
    check_options(form.write, own)
    if policy is not None and options:
        raise InputError(f"Format {form.name} has no option {', '.join(options)}; leave it out.")
    policy = _fitting(policy or _policy(store, options), form)
    needs_card_library()
    plan = _checked(store, make_plan(store, policy), policy).renamed(exported_ids(store))
    aside = unfinished_name(out.absolute())
    try:
        removed = _remove_leftovers(aside.parent)
        make_folder(aside)
        source = columns_of_source(store, plan, policy, form)
        job = Job(store, plan, policy, aside, source, progress)
        record = _fill(job, form, own, command)
        for folder in {path.parent for path in aside.rglob("*")}:
            sync_folder(folder)
        aside.rename(out)
        sync_folder(aside.parent)
    except OSError as problem:
        raise InputError(
            f"The export cannot be written to {out} ({problem.strerror}); nothing was left there. "
            "Free space, or name another folder with --out."
        ) from problem
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Outcome(out, record["counts"], source, removed)


def _new_folder(out: str | Path) -> Path:
    out = place(out)
    if not is_local(out):
        raise InputError(
            f"{out} is no folder of this machine; export to one with --out, then copy it there."
        )
    if os.path.lexists(out):
        raise InputError(f"{out} exists already; name a new folder with --out.")
    return out


def _remove_leftovers(folder: Path) -> tuple[str, ...]:
    """Delete what killed exports left in a folder, and return its names."""
    removed = []
    for path in sorted(folder.glob(f".*{UNFINISHED}")):
        with suppress(FileNotFoundError):  # another export removed it, or has just finished it
            if path.is_dir() and writer_of(path) == "ended":
                shutil.rmtree(path)
                removed.append(path.name)
    return tuple(removed)


def _fill(job: Job, form: Format, options: dict[str, Any], command: str | None) -> dict[str, Any]:
    """Write the set, its record and its card; the record."""
    outputs = form.write(job, **options)
    record = {"format": form.name} | curation(
        job.store, job.plan, job.policy, job.source, command=command, outputs=outputs
    )
    columns = pa.schema([*form.columns(job.policy), *job.source.schema])
    write_text(job.aside / "curation.json", json.dumps(record, indent=2, ensure_ascii=False))
    write_text(job.aside / "README.md", card_text(record, columns))
    return record


def _format(form: Format | str) -> Format:
    if isinstance(form, Format):
        return form
    if form not in FORMATS:
        raise InputError(f"There is no format {form!r}; --format is {', '.join(FORMATS)}.")
    return FORMATS[form]


def _policy(store: Store, options: dict[str, Any]) -> Policy:
    """A policy from keywords; the newest run with the finding where scores are needed."""
    known = [field.name for field in fields(Policy)]
    for name in options:
        if name not in known:
            raise InputError(f"An export has no option {name!r}; it has {', '.join(known)}.")
    policy = Policy(**options)
    if policy.run is not None or not _needs_run(store, policy):
        return policy
    runs = [run for run in store.runs() if policy.finding in findings(store, run)]
    newest = max(runs, key=lambda run: str(run_about(store, run).get("started", "")), default=None)
    return replace(policy, run=newest)


def _needs_run(store: Store, policy: Policy) -> bool:
    named = [name for option, text in policy.conditions for name in names(text, option)]
    if weighed := weight_column(policy):
        named.append(weighed[0])
    return policy.uses_scores or not set(named) <= set(column_kinds(store))


def _fitting(policy: Policy, form: Format) -> Policy:
    if not form.undecided and (policy.keep_ties or policy.keep_unlabelled):
        raise InputError(
            f"--format {form.name} cannot say that a pair is tied or has no label; leave out "
            "--keep-ties and --keep-unlabelled, or choose --format pickapic."
        )
    if form.images == "always" and not policy.images:
        raise InputError(
            f"--format {form.name} is made of images; leave out --no-images, or choose --format "
            "pickapic or weights."
        )
    if not form.source_columns and (policy.keep or policy.pseudonymize):
        raise InputError(
            f"--format {form.name} has no columns of the source; leave out --keep and "
            "--pseudonymize, or choose --format pickapic."
        )
    return replace(policy, images=False) if form.images == "never" else policy


def _checked(store: Store, plan: Plan, policy: Policy) -> Plan:
    if not plan.kept.any():
        raise InputError(
            f"Nothing is left of the store's {len(plan.kept):,} pairs under this policy; see what "
            "it drops with --preview."
        )
    if policy.images:
        kept = plan.rows.filter(pa.array(plan.kept))
        ids = pa.chunked_array([*kept["image_0"].chunks, *kept["image_1"].chunks])
        if absent := absent_images(store, ids):
            raise InputError(
                f"The store has no image {absent[0]}"
                + (f" and {len(absent) - 1:,} more" if len(absent) > 1 else "")
                + "; ingest the source with its images, or export with --no-images."
            )
        if not policy.allow_outside and (links := relinked_files(store, ids)):
            file, real = links[0]
            raise InputError(
                f"{file} is a link to {real} now, and was none when its images were ingested"
                + (f" ({len(links) - 1:,} more are)" if len(links) > 1 else "")
                + "; put the file back, or export what it leads to with --allow-outside."
            )
    return plan
