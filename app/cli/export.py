"""`outvoted export`: a curated set in a format that trainers read."""

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from toolkit.export import Format, Outcome, Policy
    from toolkit.store import Store


def export(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    out: Annotated[str | None, typer.Option(help="New folder for the set.")] = None,
    format: Annotated[
        str,
        typer.Option(help="pickapic, chosen-rejected, webdataset, weights or kohya."),
    ] = "pickapic",
    labels: Annotated[
        str | None, typer.Option(help="Label set; else the finding's own, else original.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="The run whose finding is used.")] = None,
    finding: Annotated[str, typer.Option(help="The finding that ranks the pairs.")] = "minority",
    where: Annotated[
        str | None, typer.Option(help='Only pairs where it holds: "not nsfw and votes > 1".')
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help='Drop where it holds, such as "minority > 0.5".')
    ] = None,
    flip: Annotated[
        list[str] | None, typer.Option(help="Reverse the label where it holds.")
    ] = None,
    drop_top: Annotated[
        float, typer.Option(min=0, max=1, help="Drop this share, highest score first.")
    ] = 0.0,
    flip_top: Annotated[
        float, typer.Option(min=0, max=1, help="Flip this share, highest score first.")
    ] = 0.0,
    reweight: Annotated[
        bool, typer.Option("--reweight", help="sample_weight = 1 / (1 + k1 * minority).")
    ] = False,
    k1: Annotated[float, typer.Option(min=0, help="k1 of --reweight.")] = 10.0,
    weight: Annotated[
        str | None, typer.Option(help='sample_weight from a column: "COLUMN" or "1 - COLUMN".')
    ] = None,
    verdicts: Annotated[bool, typer.Option(help="Apply the published verdicts.")] = True,
    keep_ties: Annotated[
        bool, typer.Option("--keep-ties", help="Keep ties as .5; some trainers misread them.")
    ] = False,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Keep pairs without a label.")
    ] = False,
    pseudonyms: Annotated[
        bool, typer.Option(help="Replace annotators by keyed pseudonyms.")
    ] = True,
    images: Annotated[bool, typer.Option(help="Include the images' bytes.")] = True,
    preview: Annotated[
        bool, typer.Option("--preview", help="Print the counts and write nothing.")
    ] = False,
) -> None:
    """Write a curated copy of the pairs for your trainer.

    Filtered, relabelled or reweighted, with its provenance and a dataset card.
    """
    from toolkit.export import Policy

    policy = Policy(
        labels=labels,
        run=run,
        finding=finding,
        drop=tuple(drop or ()),
        flip=tuple(flip or ()),
        where=where,
        drop_top=drop_top,
        flip_top=flip_top,
        reweight=reweight,
        k1=k1,
        weight=weight,
        verdicts=verdicts,
        keep_ties=keep_ties,
        keep_unlabelled=keep_unlabelled,
        pseudonyms=pseudonyms,
        images=images,
    )
    _carry_out(store, out, format, policy, preview)


def _carry_out(store: str, out: str | None, name: str, policy: "Policy", preview: bool) -> None:
    """Look or write, with a bar, and print the outcome."""
    from toolkit.errors import InputError
    from toolkit.export import FORMATS
    from toolkit.export import preview as preview_set
    from toolkit.store import open_store

    if name not in FORMATS:
        raise InputError(f"There is no format {name!r}; --format is {', '.join(FORMATS)}.")
    opened = open_store(store)
    if preview:
        outcome = preview_set(opened, policy)
    elif out is None:
        raise InputError("--out is missing; name a new folder, or look first with --preview.")
    else:
        outcome = _write(opened, out, policy, FORMATS[name])
    for line in outcome.lines():
        typer.echo(line)
    if outcome.out is not None:
        typer.echo(f"written to {outcome.out}")


def _write(store: "Store", out: str, policy: "Policy", form: "Format") -> "Outcome":
    from rich.console import Console
    from rich.progress import Progress

    from toolkit.export import export_set

    command = shlex.join(["outvoted", *sys.argv[1:]])
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("rows", total=None)
        return export_set(
            store,
            out,
            policy,
            form,
            command=command,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
