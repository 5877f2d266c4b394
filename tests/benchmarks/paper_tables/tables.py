"""Which runs make up each table: pure declarations.

A cell is a method, a share of planted flips and a seed. The numbers of the paper's tables are
names here: the questions are the paper's; the world, the grids and the figures are ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

RATES = (0.0, 0.2, 0.1, 0.3)
"""Shares of planted flips, in the order in which they are run."""
SEEDS = (0, 1, 2)
TUNING_SEED = 100
"""Settings are chosen on this seed, and its results are reported nowhere."""

HELD_OUT = "held_out"
"""The split of pairs that no cell trains on."""
CLEAN = "clean"
"""The label set of the held-out pairs' true labels."""

Changes = dict[str, Any]


def flips(rate: float, seed: int) -> str:
    """The label set that a cell of this rate and seed is trained under."""
    return f"flip{rate * 100:02.0f}-seed{seed}" if rate else "original"


@dataclass(frozen=True)
class Method:
    """A row of a table: its changes to the common recipe."""

    name: str
    changes: Changes = field(hash=False)
    choices: tuple["Method", ...] = ()
    """The row is the best of these on the tuning seed, chosen at each rate by the accuracy
    on held-out pairs under labels flipped like the training's."""
    voters: tuple[str, ...] = ()
    """It is trained on the majority of the label and these scorers."""


@dataclass(frozen=True)
class Table:
    """A question and the runs that answer it."""

    title: str
    question: str
    methods: tuple[Method, ...]
    rates: tuple[float, ...] = RATES
    seeds: tuple[int, ...] = SEEDS
    rival: str | None = None
    """The row that the others are compared with."""


@dataclass(frozen=True)
class Cell:
    """One run."""

    method: Method
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """Of its run and its samples."""
        return f"{self.method.name}-flip{self.rate * 100:02.0f}-seed{self.seed}"


def cells(table: Table) -> Iterator[Cell]:
    """Every run of a table in the order they are to be made: rate by rate, all seeds of a method;
    a method's choices before itself."""
    for rate in table.rates:
        for method in table.methods:
            yield from (Cell(choice, rate, TUNING_SEED) for choice in method.choices)
            yield from (Cell(method, rate, seed) for seed in table.seeds)


HISTORY = {"metric": {"preset": "history", "rho": 3.75}, "footprints": []}
_RELEASED = {"metric": {"preset": "released", "rho": 15.0}, "footprints": [0.9999, 0.5]}
_RUNNING = {"metric": {"preset": "running"}, "footprints": [0.9999, 0.5]}
_BETA = 300.0


def _plain(name: str, **settings: Any) -> Method:
    """An objective without the metric's weight; `history` costs it nothing."""
    label = name + "".join(f"-{key}{value:g}" for key, value in settings.items() if key != "beta")
    return Method(label, {"objective": {"name": name, **settings}, **HISTORY})


def _adaptive(label: str, preset: Changes, **settings: Any) -> Method:
    objective = {"name": "adaptive_dpo", "beta": _BETA, "k1": 10.0, **settings}
    return Method(label, {"objective": objective, **preset})


def _rho(value: float) -> Changes:
    return {**_RELEASED, "metric": {"preset": "released", "rho": value}}


DPO = _plain("diffusion_dpo", beta=_BETA)
SFT = _plain("sft")
VOTE = Method(
    "vote_diffusion_dpo",
    DPO.changes,
    voters=("world_glance", "world_alignment", "world_warmth", "world_aesthetic"),
)
"""The paper's voting baseline. None of the four is the exact reward: that would be the answer."""
_ROBUST = tuple(_plain("robust_dpo", beta=_BETA, a=a) for a in (0.1, 0.2, 0.3))
_POLY = tuple(_plain("poly_dpo", beta=_BETA, alpha=a) for a in (-1.0, 1.0, 4.0, 8.0))
_STANDARD = _adaptive("adaptive_released", _RELEASED)
"""W linear, Gamma quadratic, k1 10 and rho 15: a row of tables 1, 5 and 6, and run once."""
_ADAPTIVE = (
    _STANDARD,
    _adaptive("adaptive_running", _RUNNING),
    _adaptive("adaptive_history", HISTORY),
)

_MAIN = Table(
    "Objectives under planted flips (the shape of Tables 1, 2, 3 and 8)",
    "Does weighing by the minority score keep the gain of preference training as labels get worse?",
    (
        SFT,
        DPO,
        VOTE,
        Method("robust_dpo", {}, _ROBUST),
        Method("poly_dpo", {}, _POLY),
        *_ADAPTIVE,
    ),
    rival=DPO.name,
)

_WEIGHTS = ("square", "sqrt", "sigmoid", "none")
_MARGINS = ("linear", "none")

_VARIANTS = Table(
    "Forms of weight and margin (the shape of Table 5)",
    "Which W and which Gamma? With neither it is plain DPO. adaptive_released has W linear and "
    "Gamma quadratic, each W- and Gamma- row changes one of them, under `history` where it says "
    "so.",
    (
        DPO,
        _STANDARD,
        *(_adaptive(f"W-{form}", _RELEASED, weight=form) for form in _WEIGHTS),
        *(_adaptive(f"Gamma-{form}", _RELEASED, margin=form) for form in _MARGINS),
        _ADAPTIVE[-1],
        _adaptive("history-W-none", HISTORY, weight="none"),
        _adaptive("history-Gamma-none", HISTORY, margin="none"),
    ),
    rates=(0.2, 0.0),
    rival=DPO.name,
)

_STRENGTH = Table(
    "k1 and rho (the shape of Table 6)",
    "How hard should a pair be weighed down, and how sharp is the score? adaptive_released has k1 "
    "10 and rho 15, each row below it changes one of them.",
    (
        DPO,
        _STANDARD,
        *(_adaptive(f"k1-{k1:g}", _RELEASED, k1=k1) for k1 in (1.0, 100.0)),
        *(_adaptive(f"rho-{rho:g}", _rho(rho)) for rho in (5.0, 45.0)),
    ),
    rates=(0.2, 0.0),
    rival=DPO.name,
)

_IPO = Table(
    "IPO and its adaptive forms (the shape of Table 7)",
    "Does the weight help a loss that is bounded, too?",
    (
        _plain("ipo", tau=100.0),
        *(
            Method(
                f"adaptive_ipo_{form}",
                {
                    "objective": {"name": "adaptive_ipo", "form": form, "tau": 100.0},
                    **_RELEASED,
                },
            )
            for form in ("paper", "released")
        ),
    ),
    rates=(0.2, 0.0),
    rival="ipo",
)

_TIME = Table(
    "Time of Adaptive over plain (the shape of Appendix G)",
    "What does the metric cost?",
    (DPO, *_ADAPTIVE),
    rates=(0.2,),
    seeds=(0,),
)

TABLES: dict[str, Table] = {
    **dict.fromkeys(("1", "2", "3", "8"), _MAIN),
    "5": _VARIANTS,
    "6": _STRENGTH,
    "7": _IPO,
    "G": _TIME,
}
"""By the paper's numbers; 1, 2, 3 and 8 share one set of runs."""
