"""What a store still lacks before its pairs can be judged, and what to type next."""

from dataclasses import dataclass

import streamlit as st

from app.desk.components import messages as notice
from app.desk.summary import Overview
from toolkit.store import Store
from toolkit.store.queue.tables import FINDING


@dataclass(frozen=True)
class Need:
    """One thing a store needs: in words, whether it is there, and the command that brings it."""

    text: str
    there: bool
    command: str


def needs(store: Store, found: Overview, asked: str = "") -> list[Need]:
    """Pairs, images, a run, its finding: in the order in which they are made.

    `asked`: the run that has to have the finding; any run where it is empty.
    """
    place = notice.path(store.root)
    ready = [run for run, names in found.findings.items() if FINDING in names]
    ready = [run for run in ready if asked in ("", run)]
    run = asked or (found.runs[-1] if found.runs else "RUN")
    return [
        Need(
            "Pairs: prompts with two images and a label.",
            found.totals["pairs"] > 0,
            f"outvoted ingest --help\noutvoted ingest KIND PATH --store {place}",
        ),
        Need(
            "Images: what the pairs show.",
            found.totals["images"] > 0,
            f"outvoted ingest --help\noutvoted ingest KIND PATH --store {place}",
        ),
        Need(
            "A run: the record a training left for every pair.",
            bool(found.runs),
            f"outvoted train RECIPE --store {place}",
        ),
        Need(
            f"A finding {FINDING}: confidence, stability and u of every pair of the run.",
            bool(ready),
            f"outvoted analyze {place} --run {run}",
        ),
    ]


def draw(store: Store, found: Overview, asked: str = "") -> None:
    """The page of a store whose pairs cannot be judged yet."""
    st.title("Not ready to judge yet")
    wanted = needs(store, found, asked)
    missing = [need for need in wanted if not need.there]
    st.html(
        '<p class="desk-quiet">The desk shows the pairs of a run, the most suspicious first. '
        "This store still needs:</p>"
    )
    notice.steps([(need.text, need.there) for need in wanted])
    if missing:
        st.html('<p class="desk-quiet">Type next, in a terminal:</p>')
        notice.command(missing[0].command)
    st.html('<p class="desk-quiet">Then reload this page.</p>')
