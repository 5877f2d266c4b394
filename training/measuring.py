"""What probes and held-out pairs add to a run, counted from its recipe before it is run.

`training.due` measures after every so many steps and after the last; `training.probe` leaves one
row a pair and draw.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from training.data import Pairs
from training.noising import epoch_order
from training.probe import probe_members
from training.recipe import Recipe
from training.sections import HeldOut, Probe


@dataclass(frozen=True)
class Measuring:
    """Pairs that a run measures again and again, without gradient."""

    members: tuple[int, ...]
    """Which pairs, as indices."""
    draws: int
    times: int
    asks_once: bool
    """Whether the reference's errors are kept from the first time on."""

    @property
    def rows(self) -> int:
        """Trajectory rows, one a pair, draw and time."""
        return len(self.members) * self.draws * self.times

    def passes(self, models: int) -> int:
        """Forward passes of one network over one pair: `models` and the reference."""
        asked = 1 if self.asks_once else self.times
        return len(self.members) * self.draws * (models * self.times + asked)


def times_due(every: int, steps: int) -> int:
    """How often a run of `steps` does what is due every so many of them and after the last."""
    return -(-steps // every)


def measurings(
    recipe: Recipe, pairs: Pairs, held_out: Pairs | None
) -> tuple[Measuring | None, Measuring | None]:
    """A recipe's probe of `pairs`, and its measuring of `held_out`."""
    probe = aside = None
    if recipe.probe is not None:
        probe = _measuring(recipe.probe, recipe.steps, pairs, asks_once=False)
    if recipe.held_out is not None and held_out is not None:
        aside = _measuring(recipe.held_out, recipe.steps, held_out, asks_once=True)
    return probe, aside


def _measuring(section: Probe | HeldOut, steps: int, pairs: Pairs, *, asks_once: bool) -> Measuring:
    members = probe_members(section.seed, pairs.pair_id, section.pairs)
    return Measuring(tuple(members), section.draws, times_due(section.every, steps), asks_once)


@dataclass(frozen=True)
class Met:
    """What a run meets and therefore encodes: each once, where the cache holds it."""

    pairs: int
    images: int
    prompts: int


def met(
    recipe: Recipe,
    pairs: Pairs,
    held_out: Pairs | None,
    visits: int,
    measured: Sequence[Measuring | None],
) -> Met:
    """What `visits` of training and the probe meet of `pairs`, and `measured` of `held_out`."""
    probe, aside = measured
    first = epoch_order(recipe.seed, 0, len(pairs))[:visits]
    mine = np.union1d(first, np.array(probe.members if probe else (), np.int64))
    found = [(pairs, mine.tolist())]
    if held_out is not None and aside is not None:
        found.append((held_out, aside.members))
    return Met(
        sum(len(members) for _, members in found),
        len({name for some, members in found for name in _images(some, members)}),
        len({some.prompt[k] for some, members in found for k in members}),
    )


def _images(pairs: Pairs, members: Iterable[int]) -> Iterable[str]:
    for k in members:
        yield pairs.image_0[k]
        yield pairs.image_1[k]
