"""Reads of the page Prompts and people: by SQL over the desk's tables, kept until they change."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import streamlit as st

from app.desk.queries import shelf
from app.desk.queries.queue import Desk
from toolkit.store.queue import prompts
from toolkit.store.runs import findings, read_findings

HABITS = "annotators"


@dataclass(frozen=True)
class Quarrels:
    """Labels that contradict each other."""

    contradictions: int
    contradicted: list[dict[str, Any]]
    circles: int
    circled: list[dict[str, Any]]


def noisy(desk: Desk, least: int) -> list[dict[str, Any]]:
    """Of `prompts.noisy_prompts`, with the verdicts of this moment."""
    return prompts.noisy_prompts(desk.cursor(), least=least)


def quarrels(desk: Desk) -> Quarrels:
    """Contradictions and circles under the desk's label set."""
    return _quarrels(desk, (desk.label_set, desk.run, shelf.stamp(desk.store)))


@st.cache_data(show_spinner="Looking for contradictions ...", max_entries=4)
def _quarrels(_desk: Desk, stamp: Any) -> Quarrels:  # noqa: ARG001
    cursor = _desk.cursor()
    return Quarrels(*prompts.contradictions(cursor), *prompts.circles(cursor))


def habits(desk: Desk) -> pa.Table:
    """Annotators' habits: the run's finding, or, without one, what SQL tells of them."""
    if desk.run and HABITS in findings(desk.store, desk.run):
        return read_findings(desk.store, desk.run, HABITS)
    return prompts.habits(desk.cursor())
