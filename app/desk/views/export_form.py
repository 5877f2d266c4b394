"""The form of the page Export: its widgets, and the policy that they state."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.desk import export_jobs as exporting
from app.desk import state
from app.desk.components import messages as notice
from app.desk.queries import shelf
from toolkit.export import FORMATS, Policy
from toolkit.store import Store
from toolkit.store.label_sets import label_sets
from toolkit.store.runs import findings

_OWN = "the finding's own"
_NONE = "no run"


@dataclass(frozen=True)
class Wanted:
    """What the form states."""

    policy: Policy
    form: str
    name: str


def draw(store: Store, settings: state.Settings) -> Wanted:
    """The widgets, and what they state."""
    left, right = st.columns(2)
    name = left.text_input(
        "Name of the export",
        value="curated",
        key="export-name",
        max_chars=100,
        help=f"A new folder of this name in {notice.escaped(str(exporting.folder(store)))}",
    )
    form = right.selectbox("Format", list(FORMATS), key="export-format")
    given = _scores(store, settings)
    given |= _conditions()
    given |= _shares(scored=given["run"] is not None)
    given |= _switches()
    return Wanted(Policy(**given), str(form), name)


def _scores(store: Store, settings: state.Settings) -> dict[str, Any]:
    """Whose scores and which labels."""
    row = st.columns(3)
    runs = [_NONE, *store.runs()]
    first = shelf.run_of(store, settings.run)
    at = runs.index(first) if first in runs and findings(store, str(first)) else 0
    run = row[0].selectbox("Scores of run", runs, index=at, key="export-run")
    names = [] if run == _NONE else [f for f in findings(store, run) if f != "annotators"]
    finding = row[1].selectbox(
        "Finding that ranks",
        names or ["minority"],
        index=names.index("minority") if "minority" in names else 0,
        disabled=not names,
        key="export-finding",
    )
    labels = row[2].selectbox("Labels", [_OWN, *label_sets(store)], key="export-labels")
    return {
        "run": None if run == _NONE else run,
        "finding": finding if run != _NONE else "minority",
        "labels": None if labels == _OWN else labels,
    }


def _conditions() -> dict[str, Any]:
    """Conditions in the language of filters."""
    where = st.text_input(
        "Only pairs where",
        key="export-where",
        placeholder='split = "train" and votes > 1',
        max_chars=2000,
    )
    left, right = st.columns(2)
    drop = left.text_area(
        "Drop where (a condition a line)",
        key="export-drop",
        height=80,
        placeholder="minority > 0.9 and verdict is null",
    )
    flip = right.text_area("Flip where (a condition a line)", key="export-flip", height=80)
    return {"where": where.strip() or None, "drop": _lines(drop), "flip": _lines(flip)}


def _shares(*, scored: bool) -> dict[str, Any]:
    """What is done by score: the top dropped or flipped, and weights."""
    left, right = st.columns(2, vertical_alignment="bottom")
    whole = (0.0, 100.0, 0.0, 0.5)
    drop = left.number_input(
        "Drop the top, % of the pairs with a score",
        *whole,
        key="export-drop-top",
        disabled=not scored,
    )
    flip = right.number_input("Flip the top, %", *whole, key="export-flip-top", disabled=not scored)
    left, right = st.columns(2, vertical_alignment="bottom")
    reweight = left.toggle("Reweight by 1 / (1 + k1 u)", key="export-reweight", disabled=not scored)
    k1 = right.number_input("k1", 0.0, 1000.0, 10.0, key="export-k1", disabled=not reweight)
    weight = st.text_input(
        "Or weight by a column",
        key="export-weight",
        placeholder="1 - calibrated.probability",
        max_chars=200,
    )
    return {
        "drop_top": round(drop / 100, 6) if scored else 0.0,
        "flip_top": round(flip / 100, 6) if scored else 0.0,
        "reweight": bool(reweight and scored),
        "k1": k1 if reweight and scored else 10.0,
        "weight": weight.strip() or None,
    }


def _switches() -> dict[str, Any]:
    row = st.columns(2)
    return {
        "verdicts": row[0].toggle("Apply verdicts", True, key="export-verdicts"),
        "images": row[1].toggle("With the images", True, key="export-images"),
        "keep_ties": row[0].toggle("Keep ties", False, key="export-ties"),
        "keep_unlabelled": row[1].toggle("Keep unlabelled", False, key="export-unlabelled"),
        "pseudonyms": row[0].toggle("Pseudonyms for people", True, key="export-pseudonyms"),
    }


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())
