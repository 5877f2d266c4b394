"""What a store contains, what it lacks before its pairs can be judged, and what to type next."""

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app.desk.components import text
from toolkit.store import Store, connect
from toolkit.store.label_sets import label_sets
from toolkit.store.pair_table import MINORITY
from toolkit.store.queue import tables
from toolkit.store.runs import findings


@dataclass(frozen=True)
class Summary:
    """What the store contains."""

    totals: dict[str, int]
    """Pairs, images, votes, quarantine."""
    reasons: list[tuple[str, int]]
    """Why pairs were quarantined, and how many."""
    label_sets: list[str]
    runs: list[str]
    findings: dict[str, list[str]]
    unfinished: list[Path]


def summarize(store: Store) -> Summary:
    """Counts of everything in the store, as it is now."""
    with connect(store) as con:
        totals, reasons = tables.totals(con), tables.quarantine_reasons(con)
    runs = store.runs()
    return Summary(
        totals=totals,
        reasons=reasons,
        label_sets=label_sets(store),
        runs=runs,
        findings={run: names for run in runs if (names := findings(store, run))},
        unfinished=store.unfinished(),
    )


@dataclass(frozen=True)
class Need:
    """One thing a store needs: in words, whether it is there, and the command that adds it."""

    text: str
    there: bool
    command: str


def ingest_command(store: Store) -> str:
    """The command that adds pairs and images."""
    return f"outvoted ingest KIND PATH --store {text.shell_path(store.root)}"


def train_command(store: Store) -> str:
    """The command that adds a run."""
    return f"outvoted train RECIPE --store {text.shell_path(store.root)}"


def analyze_command(store: Store, run: str) -> str:
    """The command that adds the findings of a run."""
    return f"outvoted analyze {text.shell_path(store.root)} --run {run}"


def run_command(store: Store, wanted: str | None = None) -> str:
    """The command that adds a finding: training if there is no run yet, else analysis."""
    runs = store.runs()
    return analyze_command(store, wanted or runs[-1]) if runs else train_command(store)


def needs(store: Store, summary: Summary, wanted: str = "") -> list[Need]:
    """Pairs, images, a run, its finding: in the order in which they are made.

    `wanted`: the run that must have the finding; any run if it is empty.
    """
    ready = [run for run, names in summary.findings.items() if MINORITY in names]
    ready = [run for run in ready if wanted in ("", run)]
    run = wanted or (summary.runs[-1] if summary.runs else "RUN")
    ingest = f"outvoted ingest --help\n{ingest_command(store)}"
    return [
        Need("Pairs: prompts with two images and a label.", summary.totals["pairs"] > 0, ingest),
        Need("Images: what the pairs show.", summary.totals["images"] > 0, ingest),
        Need(
            "A run: the trajectory that a training records of every pair.",
            bool(summary.runs),
            train_command(store),
        ),
        Need(
            f"A finding {MINORITY}: confidence, stability and u of every pair of the run.",
            bool(ready),
            analyze_command(store, run),
        ),
    ]


def show_needs(store: Store, summary: Summary, wanted: str = "") -> None:
    """The page of a store whose pairs cannot be judged yet."""
    st.title("Not ready yet")
    text.quiet(
        "The desk shows the pairs of a run, the most suspicious first. This store still needs:"
    )
    steps = needs(store, summary, wanted)
    first = next((number for number, need in enumerate(steps) if not need.there), len(steps))
    rows = "".join(
        f'<li class="{"later" if number > first else ""}"><b>{"✓" if need.there else number + 1}'
        f"</b><span>{text.escape(need.text)}</span></li>"
        for number, need in enumerate(steps)
    )
    st.html(f'<ul class="desk-steps">{rows}</ul>')
    if first < len(steps):
        text.quiet("Type next, in a terminal:")
        text.command(steps[first].command)
    text.quiet("Then reload this page.")
