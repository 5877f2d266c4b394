"""The judging component: the pairs that judge.js shows, and what a curator pressed there.

A message of the browser is {session, epoch, have, actions}. Its actions have consecutive numbers
and are sent again until they are acknowledged: those up to `ack` were done already, the next one is
done, and any other number is refused. A refusal begins a new epoch: what the browser sent before
it knew is ignored. An action names its pair, which must have been offered to this session.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import streamlit as st

from app.desk import page, state
from app.desk.components import pair_card, text
from app.desk.image_cache import CARD_SIDE, ShownImage, thumbnails
from app.desk.queries.connection import Desk
from toolkit.errors import InputError
from toolkit.preference import is_decided
from toolkit.store import Store
from toolkit.store.journal import Entry
from toolkit.store.verdicts import Verdict, choice_of

Action: TypeAlias = Mapping[str, Any]
Acts: TypeAlias = Mapping[str, Callable[[Action], None]]
"""Kind of an action -> what it does."""

KEYS: dict[Verdict, str] = {"keep": "K", "flip": "F", "tie": "T", "drop": "D", "unsure": "U"}
MEANINGS: dict[Verdict, str] = {
    "keep": "Keep: the label is right",
    "flip": "Flip: the other image is better",
    "tie": "Tie: neither is better",
    "drop": "Drop: not fit for training",
    "unsure": "Unsure: no decision",
}
SIDES = (
    {"word": "Left", "key": "1", "choice": "left", "help": "The left image is better"},
    {"word": "Right", "key": "2", "choice": "right", "help": "The right image is better"},
)
REASONS = ("wrong image", "both bad", "near equal", "prompt unclear", "unsafe", "text or hands")
"""Tags that a curator may give as reasons."""

SLOTS = ("image_0", "image_1")
DECK = 6
"""Pairs that the browser has: the one on screen and the next ones."""
_KEY = "judge"
_OFFERED = 256
_SIZES = {"card": CARD_SIDE, "small": 160, "full": 1 << 30}

_component = st.components.v2.component(
    "outvoted_judge",
    js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


@dataclass(frozen=True)
class Card:
    """A pair as it is sent to the browser, and what is saved with a verdict on it."""

    payload: dict[str, Any]
    """pair, prompt, place, sides (slot, image, model, mark), answers, chips, note, ..."""
    images: dict[str, str | None]
    """Slot -> image_id."""
    label_set: str
    shown: dict[str, Any]

    @property
    def pair_id(self) -> str:
        """The pair."""
        return str(self.payload["pair"])

    def entry(self, action: Action, curator: str) -> Entry:
        """A verdict on this pair. InputError if it is none that the card offers."""
        sides, choice = [str(side) for side in action["sides"]], action["choice"]
        choices = {answer["choice"] for answer in self.payload["answers"]}
        if choices & {"left", "right"}:
            choices |= set(SLOTS)
        if choice not in choices or sorted(sides) != list(SLOTS):
            raise InputError(f"{choice!r} is no answer to pair {self.pair_id}; nothing was saved.")
        return Entry(
            self.pair_id,
            curator,
            choice,
            self.label_set,
            reasons=tuple(tag for tag in action["reasons"] if tag in REASONS),
            note=str(action["note"]).strip()[:500],
            shown={**self.shown, "sides": sides},
        )


@dataclass
class Link:
    """What a session and its browser have agreed on."""

    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    ack: int = 0
    """The last action that was done."""
    epoch: int = 0
    """How many actions were refused."""
    have: frozenset[str] = frozenset()
    """Images that the browser has."""
    offered: dict[str, Card] = field(default_factory=dict)
    originals: str = ""
    """The pair whose images are wanted at full size."""

    def offer(self, cards: Sequence[Card]) -> None:
        """Note that these pairs may be judged."""
        for card in cards:
            self.offered.pop(card.pair_id, None)
            self.offered[card.pair_id] = card
        for pair_id in list(self.offered)[:-_OFFERED]:
            del self.offered[pair_id]

    def card(self, action: Action) -> Card:
        """The card of an action's pair. InputError if the pair was not offered."""
        card = self.offered.get(action["pair"])
        if card is None:
            raise InputError(
                f"Pair {action['pair']} was not on screen in this session, so nothing was saved; "
                "look at it again."
            )
        return card

    def receive(self, message: Action, acts: Acts) -> str:
        """Do the actions of a message that are due; returns why one was refused, or ""."""
        if (message["session"], message["epoch"]) != (self.session, self.epoch):
            return ""  # of another session, or sent before a refusal was known
        self.have = frozenset(message["have"])
        for action in message["actions"]:
            if action["seq"] <= self.ack:
                continue
            problem = ""
            if action["seq"] != self.ack + 1:
                problem = (
                    f"Key press {action['seq']} arrived where {self.ack + 1} was due; it was not "
                    "saved. Look at the pair again."
                )
            elif action["do"] == "look":
                self.originals = action["pair"]
            elif action["do"] not in acts:
                problem = (
                    "What you pressed last on the page before was not saved, because the page was "
                    "left; go back and press it again."
                )
            else:
                problem = page.problem_of(acts[action["do"]], action)
            if problem:
                self.ack = max(sent["seq"] for sent in message["actions"])
                self.epoch += 1
                return problem
            self.ack += 1
        return ""


def link() -> Link:
    """The link of this session."""
    made: Link = st.session_state.setdefault("judge-link", Link())
    return made


def answers(label: float | None, *, blind: bool = False) -> list[dict[str, str]]:
    """The answers to a pair; one without a preference, or a hidden one, can be neither kept nor
    flipped."""
    decided = not blind and bool(is_decided(label))
    allowed = [verdict for verdict in KEYS if not blind or verdict in ("tie", "unsure")]
    verdicts = [
        {
            "word": verdict.capitalize(),
            "key": KEYS[verdict],
            "choice": choice_of(verdict, label),
            "help": MEANINGS[verdict],
        }
        for verdict in allowed
        if decided or verdict not in ("keep", "flip")
    ]
    return verdicts if decided else [*SIDES, *verdicts]


def make_card(
    pair: Mapping[str, Any],
    label_set: str,
    shown: Mapping[str, Any],
    *,
    place: str = "",
    blind: bool = False,
    swapped: bool = False,
    own: Mapping[str, Any] | None = None,
    chips: str = "",
    link: str = "",
) -> Card:
    """A pair (as in `tables.cards`) as it is shown. `own`: the curator's verdict on it; a blind
    card has neither this nor label and models, and image_1 is on the left if `swapped`."""
    own = own or {}
    models = {slot: str(pair.get(slot.replace("image", "model")) or "") for slot in SLOTS}
    marks = dict(zip(SLOTS, pair_card.marks(pair["label"]), strict=True))
    sides = [
        {
            "slot": slot,
            "image": pair[slot] or "none",
            "model": "" if blind else models[slot],
            "mark": "" if blind else marks[slot],
        }
        for slot in (SLOTS[::-1] if swapped else SLOTS)
    ]
    payload = {
        "pair": pair["pair_id"],
        "prompt": pair["prompt"],
        "place": place,
        "blind": blind,
        "blurred": bool(st.session_state.get("blur", True) and pair.get("unsafe")),
        "sides": sides,
        "answers": [
            {**answer, "current": answer["choice"] == own.get("choice")}
            for answer in answers(pair["label"], blind=blind)
        ],
        "chips": chips,
        "note": own.get("note") or "",
        "reasons": own.get("reasons") or [],
        "link": link,
    }
    images = {slot: pair[slot] for slot in SLOTS}
    return Card(payload, images, label_set, {**shown, "blind": blind})


def status(note: str, saved: str, done: float, place: str = "") -> dict[str, Any]:
    """The line above the pairs: `saved` is HTML, `done` the share with a verdict."""
    return {"note": note, "saved": saved, "done": done, "place": place}


def show(
    desk: Desk,
    settings: state.Settings,
    mode: str,
    cards: Sequence[Card],
    acts: Acts,
    *,
    scope: object,
    size: str = "card",
    **data: Any,
) -> None:
    """Draw the component. A verdict is saved, whatever else `acts` may say of it.

    `scope`: what the cards belong to; when it changes, the browser drops its own pairs. `data`:
    status, undo, empty, reasons, moves, stays: see judge.js.
    """
    agreed = link()
    agreed.offer(cards)
    wanted = {_name(card, slot, size): card.images[slot] for card in cards for slot in SLOTS}
    images = _images(desk.store, wanted, size)
    if original := agreed.offered.get(agreed.originals):
        names = {_name(original, slot, "full"): original.images[slot] for slot in SLOTS}
        images |= _images(desk.store, names, "full")

    def judged(action: Action) -> None:
        record(desk, settings, action)

    def receive() -> None:
        if message := st.session_state[_KEY].get("sent"):
            st.session_state["problem"] = ""
            if problem := agreed.receive(message, {"verdict": judged, **acts}):
                st.session_state["problem"] = problem

    _component(
        key=_KEY,
        data={
            "session": agreed.session,
            "epoch": agreed.epoch,
            "ack": agreed.ack,
            "mode": mode,
            "scope": repr(scope),
            "cards": [card.payload for card in cards],
            "images": images,
            "undo": None,
            "reasons": [],
            **data,
        },
        on_sent_change=receive,
    )


def _name(card: Card, slot: str, size: str) -> str:
    return f"{card.images[slot] or 'none'}@{size}"


def _images(store: Store, wanted: Mapping[str, str | None], size: str) -> dict[str, Any]:
    """The images that the browser lacks, by name."""
    missing = {name: image for name, image in wanted.items() if name not in link().have}
    if not missing:
        return {}
    shown = thumbnails(store, list(missing.values()), _SIZES[size])
    return {name: _payload(shown[image], _SIZES[size]) for name, image in missing.items()}


def _payload(image: ShownImage, side: int) -> dict[str, Any]:
    if image.problem:
        return {"problem": image.problem, "width": 1, "height": 1}
    size = {"width": image.width, "height": image.height}
    return {"src": image.source, "smaller": max(image.width, image.height) > side, **size}


def record(desk: Desk, settings: state.Settings, action: Action) -> Card:
    """Save the verdict of an action; the card that was judged."""
    card = link().card(action)
    desk.verdicts.record([card.entry(action, settings.curator)])
    return card


def saved_line(desk: Desk, settings: state.Settings) -> str:
    """What the line above the pairs says about saving, as HTML."""
    return text.saved_line(desk.verdicts.saved(settings.curator))
