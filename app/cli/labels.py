"""`outvoted labels`: what label sets there are, and new ones from votes, scores, verdicts.

`outvoted flip`: plant flips as a label set.
"""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from analysis.scorer_vote import Vote

app = typer.Typer(help="List label sets, or make one.", no_args_is_help=True)

StoreArgument = Annotated[str, typer.Argument(help="The store's folder.")]
BaseOption = Annotated[str, typer.Option(help="The label set that it is made over.")]


@app.command("list")
def list_sets(store: StoreArgument) -> None:
    """Every set with its kind and how many labels differ from the source's."""
    import pyarrow.parquet as pq

    from toolkit.files.remote import readable
    from toolkit.store import open_store
    from toolkit.store.label_sets import ORIGINAL, label_set_path, label_set_recipe, label_sets

    opened = open_store(store)
    for name in label_sets(opened):
        if name == ORIGINAL:
            typer.echo(f"{name}: what the source said")
            continue
        changed = pq.read_metadata(readable(label_set_path(opened, name))).num_rows
        kind = label_set_recipe(opened, name).get("kind", "?")
        typer.echo(f"{name}: {kind}, {changed:,} labels unlike the source's")


@app.command("majority")
def majority(
    store: StoreArgument,
    name: Annotated[str, typer.Option(help="Name of the new set.")] = "majority",
    base: BaseOption = "original",
    min_votes: Annotated[int, typer.Option(help="Votes that a comparison needs.")] = 2,
) -> None:
    """What most votes on the same two images say."""
    from toolkit.store import open_store
    from toolkit.store.relabel import majority_set

    _told(majority_set(open_store(store), name, base=base, min_votes=min_votes), base)


@app.command("outvote")
def outvote(
    store: StoreArgument,
    ballots: Annotated[
        str, typer.Option(help="Further voices: a Parquet or CSV file with pair_id, voice, choice.")
    ],
    name: Annotated[str, typer.Option(help="Name of the new set.")] = "outvoted",
    base: Annotated[str, typer.Option(help="The label set that votes along.")] = "original",
) -> None:
    """The majority of the label and further voices, such as scorers."""
    from app.cli.optional import needs

    with needs("analyze"):
        from analysis.voting import vote_in_store
    from analysis.evaluate_detectors import read_ballots
    from toolkit.store import open_store

    changed, heard = vote_in_store(
        open_store(store), read_ballots(ballots), name=name, base=base, source=ballots
    )
    typer.echo(f"Label set {name}: {changed} labels outvoted of {heard} pairs with further voices.")


@app.command("vote")
def vote(
    store: StoreArgument,
    scorer: Annotated[
        list[str] | None, typer.Option(help="Whose scores vote; all in the store if left out.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the new set.")] = "vote",
    base: Annotated[str, typer.Option(help="The label set that votes along.")] = "original",
    margin: Annotated[float, typer.Option(min=0, help="A gap of at most this is a tie.")] = 0.0,
    only_look: Annotated[bool, typer.Option("--look", help="Make no set; only tell.")] = False,
) -> None:
    """The majority of the label and the scorers' choices (arXiv 2503.16921 takes four scorers)."""
    from app.cli.optional import needs

    with needs("analyze"):
        from analysis import scorer_vote
    from toolkit.scoring import SCORERS
    from toolkit.store import open_store
    from toolkit.store.scores import scorers_in

    opened = open_store(store)
    voices = list(dict.fromkeys(scorer or scorers_in(opened)))
    known = {entry.name: entry.trained_on for entry in SCORERS.values()}
    found = scorer_vote.look(opened, voices, base=base, margin=margin, trained_on=known)
    _tell(found, base)
    if only_look:
        return
    changed, heard = scorer_vote.vote(opened, voices, name=name, base=base, margin=margin)
    typer.echo(
        f"Label set {name}: {changed:,} labels outvoted of {heard:,} pairs with scorers' choices; "
        f"{found.even:,} votes were even, and their labels stay."
    )


def _tell(found: "Vote", base: str) -> None:
    for row in found.accuracies:
        told = "chose on no labelled pair"
        if row.value is not None:
            told = (
                f"agrees with {base} on {row.value:.1%} ({row.low:.1%} to {row.high:.1%}) of "
                f"{row.pairs:,} pairs"
            )
        typer.echo(f"{row.voice}: {told}; {row.ties:,} ties, {row.missing:,} without a score")
    for warning in found.warnings:
        typer.echo(f"Warning: {warning}")
    count = len(found.accuracies)
    shares = ", ".join(f"{k} of {count}: {found.agreement[k]:,}" for k in range(count, -1, -1))
    typer.echo(
        f"Scorers for the label: {shares}; {found.incomplete:,} pairs have a tie or lack a score."
    )


@app.command("curated")
def curated(
    store: StoreArgument,
    name: Annotated[str, typer.Option(help="Name of the new set.")] = "curated",
    base: BaseOption = "original",
) -> None:
    """The published verdicts: flips and ties as labels, drops as none."""
    from toolkit.store import open_store
    from toolkit.store.relabel import curated_set

    _told(curated_set(open_store(store), name, base=base), base)


@app.command("import")
def import_array(
    store: StoreArgument,
    array: Annotated[str, typer.Argument(help=".npy with a label a pair, in the store's order.")],
    name: Annotated[str, typer.Option(help="Name of the new set.")],
    base: BaseOption = "original",
) -> None:
    """Labels from an array: 1, 0, .5, or NaN for none."""
    from toolkit.store import open_store
    from toolkit.store.relabel import imported_set

    _told(imported_set(open_store(store), name, array, base=base), base)


def _told(made: object, base: str) -> None:
    from toolkit.store.relabel import Made

    assert isinstance(made, Made)
    typer.echo(
        f"Label set {made.name}: {made.changed:,} of {made.spoken:,} labels unlike {base}'s."
    )


def flip(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    rate: Annotated[float, typer.Option(help="Share of the labelled pairs to flip, 0 to 1.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Which pairs: the same seed, the same pairs.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the new label set.")] = "flip20",
    base: Annotated[str, typer.Option(help="The label set that is flipped.")] = "original",
    by_gap: Annotated[
        str | None,
        typer.Option(help="Flip where this column's gap is small: NAME, or NAME for NAME_0, _1."),
    ] = None,
    gap_scale: Annotated[
        float | None, typer.Option(help="Gap at which a flip is e times rarer; else the median.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Look for the column in a finding of this run.")
    ] = None,
    finding: Annotated[str, typer.Option(help="That finding.")] = "minority",
) -> None:
    """Plant known flips: a label set in which a share of the labels is reversed."""
    from toolkit.store import open_store

    if by_gap is not None:
        from toolkit.store.relabel import plant_by_gap

        made = plant_by_gap(
            open_store(store),
            name,
            rate=rate,
            seed=seed,
            column=by_gap,
            scale=gap_scale,
            run=run,
            finding=finding,
            base=base,
        )
        typer.echo(
            f"Label set {name}: {made.changed} labels flipped, most where {by_gap} is small "
            f"(seed {seed})."
        )
        return
    from analysis.planted import plant_in_store

    flipped, labelled = plant_in_store(
        open_store(store), rate=rate, seed=seed, name=name, base=base
    )
    typer.echo(f"Label set {name}: {flipped} of {labelled} labels flipped (seed {seed}).")
