"""The standard world: every number in one frozen record, and the pairs that it builds.

Pairs and truth are kept apart. `BuiltWorld.pairs` is all that training and diagnostics may see,
`BuiltWorld.truth` says of every label whether it is correct, erroneous or subjective.
"""

import hashlib
import io
import itertools
import math
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from toolkit.miniworld.reward import Taste, reward
from toolkit.miniworld.scenes import (
    MENTION,
    Prompt,
    Scene,
    draw,
    random_prompt,
    random_scene,
    to_words,
)

AnnotatorKind = Literal["majority", "careless", "minority"]
KINDS: tuple[AnnotatorKind, ...] = get_args(AnnotatorKind)


@dataclass(frozen=True)
class Annotator:
    """One simulated person; `activity` is the share of all votes that this one casts."""

    name: str
    kind: AnnotatorKind
    activity: float


@dataclass(frozen=True)
class Habits:
    """How annotators of each kind turn a gap of rewards into a vote.

    `temperature` divides the gap in the Bradley-Terry model. A careless annotator errs with
    probability `careless_floor` on a pair that is far apart, rising to a half as the gap falls
    below `careless_scale`. Gaps, temperature and scale are in units of reward.
    """

    temperature: float
    careless_floor: float
    careless_scale: float


def roster(count: int, shares: Mapping[AnnotatorKind, float], seed: int) -> tuple[Annotator, ...]:
    """Annotators in random order, unequally busy; each kind casts its share of the votes."""
    rng = np.random.default_rng([0xA22, seed])
    kinds = _kinds(count, shares)
    rng.shuffle(kinds)
    busy = rng.lognormal(0.0, 0.8, count)
    per_kind = {
        kind: sum(b for b, k in zip(busy, kinds, strict=True) if k == kind) for kind in KINDS
    }
    return tuple(
        Annotator(
            f"annotator-{index:03d}", kind, float(shares[kind] * busy[index] / per_kind[kind])
        )
        for index, kind in enumerate(kinds)
    )


def _kinds(count: int, shares: Mapping[AnnotatorKind, float]) -> list[AnnotatorKind]:
    """Heads of each kind by its share, at least one of a kind that has any."""
    few = {kind: max(1, round(count * shares[kind])) for kind in KINDS[1:] if shares[kind] > 0.0}
    kinds: list[AnnotatorKind] = [kind for kind, heads in few.items() for _ in range(heads)]
    if len(kinds) >= count:
        raise ValueError(f"{count} annotators are too few for the shares {dict(shares)}")
    majority: list[AnnotatorKind] = ["majority"]
    return majority * (count - len(kinds)) + kinds


def prefers_first(kind: AnnotatorKind, true_gap: float, own_gap: float, habits: Habits) -> float:
    """Probability of a vote for image_0.

    `true_gap` is the majority's reward of image_0 minus that of image_1, `own_gap` the same under
    the taste of this annotator's own kind.
    """
    if kind == "careless":
        wrong = careless_error(true_gap, habits)
        return 1.0 - wrong if true_gap > 0.0 else wrong
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, own_gap / habits.temperature))))


def careless_error(true_gap: float, habits: Habits) -> float:
    """Probability that a careless annotator votes against the majority's truth."""
    near = math.exp(-abs(true_gap) / habits.careless_scale)
    return habits.careless_floor + (0.5 - habits.careless_floor) * near


@dataclass(frozen=True)
class Maker:
    """A pretended text-to-image model: how often it renders a mentioned attribute as asked."""

    name: str
    fidelity: float


@dataclass(frozen=True)
class World:
    """Everything that the pairs of a world depend on, apart from the seed of the pairs."""

    version: int
    seed: int
    prompts: int
    mention: Mapping[str, float]
    makers: tuple[Maker, ...]
    close: float
    annotators: int
    shares: Mapping[AnnotatorKind, float]
    habits: Habits
    majority: Taste
    minority: Taste

    def __hash__(self) -> int:
        return hash((self.version, self.seed, self.prompts, self.makers, self.close, self.habits))


STANDARD = World(
    version=1,
    seed=1,
    prompts=500,
    mention=MENTION,
    makers=(Maker("engraver", 0.9), Maker("painter", 0.7), Maker("scribbler", 0.5)),
    close=0.1,
    annotators=100,
    shares=MappingProxyType({"majority": 0.76, "careless": 0.11, "minority": 0.13}),
    habits=Habits(temperature=0.2, careless_floor=0.1, careless_scale=1.0),
    majority=Taste(alignment=1.0, warmth=0.3, vividness=0.1),
    minority=Taste(alignment=0.4, warmth=-1.6, vividness=0.1),
)
"""Version 1. A figure measured on it stays comparable: new numbers get a new version."""

_TRIES = 20
"""How often two images that answer the prompt in the same way are drawn again, if not `close`."""


@dataclass(frozen=True)
class Comparison:
    """What a pair was made from: the prompt, the two scenes and who made them."""

    prompt: Prompt
    scenes: tuple[Scene, Scene]
    makers: tuple[str, str]


@dataclass(frozen=True)
class PairRecord:
    """One annotator's vote on two images of a prompt; `label` is 1 for image_0, 0 for image_1."""

    prompt: str
    image_0_uid: str
    image_1_uid: str
    image_0: bytes
    image_1: bytes
    label: int
    annotator: str
    model_0: str
    model_1: str


@dataclass(frozen=True)
class BuiltWorld:
    """Pairs for the store, and their truth in the same order for tests and figures only."""

    world: World
    seed: int
    pairs: tuple[PairRecord, ...] = field(repr=False)
    truth: pa.Table = field(repr=False)


TRUTH_SCHEMA = pa.schema(
    [
        pa.field("image_0_uid", pa.string()),
        pa.field("image_1_uid", pa.string()),
        pa.field("annotator", pa.string()),
        pa.field("annotator_kind", pa.string()),
        pa.field("label", pa.int8()),
        pa.field("true_label", pa.int8()),
        pa.field("kind", pa.string()),
        pa.field("reward_gap", pa.float64()),
        pa.field("own_gap", pa.float64()),
    ]
)
"""One row a pair. `reward_gap` is the majority's reward of image_0 minus that of image_1, `own_gap`
the same in the taste of the annotator; `kind` is correct, erroneous or subjective."""


def build(world: World = STANDARD, pairs: int = 2000, seed: int = 0) -> BuiltWorld:
    """Build the first `pairs` pairs of a seed; pair k is the same whatever their number."""
    built = list(each(world, pairs, seed))
    truth = pa.Table.from_pylist([row for _, row in built], schema=TRUTH_SCHEMA)
    return BuiltWorld(world, seed, tuple(record for record, _ in built), truth)


def each(
    world: World = STANDARD, pairs: int = 2000, seed: int = 0
) -> Iterator[tuple[PairRecord, dict[str, object]]]:
    """The pairs of `build` one by one as they are drawn, each with its row of the truth."""
    for index in range(pairs):
        yield _pair(world, seed, index)


def comparison(world: World, seed: int, index: int) -> Comparison:
    """The prompt and the two scenes behind pair `index`."""
    rng = np.random.default_rng([0xC0417, seed, index])
    prompt = _prompt(world, int(rng.integers(world.prompts)))
    first, second = (world.makers[int(k)] for k in rng.integers(len(world.makers), size=2))
    scene = _attempt(prompt, first, rng)
    if rng.random() < world.close:
        # Another try at the same image: only what the prompt leaves open may differ.
        kept = {name: getattr(scene, name) for name in ("shape", *prompt.mentioned)}
        return Comparison(prompt, (scene, random_scene(rng, **kept)), (first.name, first.name))
    other = _attempt(prompt, second, rng)
    for _ in range(_TRIES):
        if any(getattr(scene, name) != getattr(other, name) for name in prompt.mentioned):
            break
        scene, other = _attempt(prompt, first, rng), _attempt(prompt, second, rng)
    return Comparison(prompt, (scene, other), (first.name, second.name))


def oracle(truth: pa.Table, labels: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """How strongly the true gap speaks against each label (high = suspicious), shape (N,).

    `labels` are 1 or 0 for image_0, in the order of the truth; without them the annotators' own are
    scored. No method that sees only the pairs can be expected to do better.
    """
    given = truth.column("label").to_numpy() if labels is None else np.asarray(labels)
    gap = truth.column("reward_gap").to_numpy()
    return np.where(given == 1, -gap, gap)


@lru_cache(maxsize=8)
def annotators_of(world: World) -> tuple[Annotator, ...]:
    """The annotators of a world; who they are does not depend on the seed of the pairs."""
    return roster(world.annotators, world.shares, world.seed)


def _anyone(world: World, rng: np.random.Generator) -> Annotator:
    """An annotator, the busy ones more often."""
    people = annotators_of(world)
    index = bisect(_turns(world), rng.random())
    return people[min(index, len(people) - 1)]


@lru_cache(maxsize=8)
def _turns(world: World) -> list[float]:
    return list(itertools.accumulate(person.activity for person in annotators_of(world)))


@lru_cache(maxsize=4096)
def _prompt(world: World, index: int) -> Prompt:
    return random_prompt(np.random.default_rng([0x9807, world.seed, index]), world.mention)


def _attempt(prompt: Prompt, maker: Maker, rng: np.random.Generator) -> Scene:
    """What a maker draws: each mentioned attribute as asked if it succeeds, the rest at random."""
    asked = prompt.mentioned
    kept = {name: word for name, word in asked.items() if rng.random() < maker.fidelity}
    return random_scene(rng, **kept)


def _pair(world: World, seed: int, index: int) -> tuple[PairRecord, dict[str, object]]:
    behind = comparison(world, seed, index)
    # A stream of its own, so that votes do not change with the way scenes are drawn.
    rng = np.random.default_rng([0x707E, seed, index])
    person = _anyone(world, rng)
    true_gap = _gap(behind, world.majority)
    own_gap = _gap(behind, world.minority) if person.kind == "minority" else true_gap
    first = prefers_first(person.kind, true_gap, own_gap, world.habits)
    label, true_label = int(rng.random() < first), int(true_gap > 0.0)
    uids = (_uid(world, seed, index, 0), _uid(world, seed, index, 1))
    record = PairRecord(
        prompt=to_words(behind.prompt),
        image_0_uid=uids[0],
        image_1_uid=uids[1],
        image_0=_png(behind.scenes[0]),
        image_1=_png(behind.scenes[1]),
        label=label,
        annotator=person.name,
        model_0=behind.makers[0],
        model_1=behind.makers[1],
    )
    return record, {
        "image_0_uid": uids[0],
        "image_1_uid": uids[1],
        "annotator": person.name,
        "annotator_kind": person.kind,
        "label": label,
        "true_label": true_label,
        "kind": _kind(label, true_label, person.kind, own_gap),
        "reward_gap": true_gap,
        "own_gap": own_gap,
    }


def _kind(label: int, true_label: int, annotator: AnnotatorKind, own_gap: float) -> str:
    """A label against the majority is subjective if it is what this annotator likes better."""
    if label == true_label:
        return "correct"
    meant = annotator == "minority" and label == int(own_gap > 0.0)
    return "subjective" if meant else "erroneous"


def _gap(behind: Comparison, taste: Taste) -> float:
    first, second = (reward(behind.prompt, scene, taste) for scene in behind.scenes)
    return first - second


def _uid(world: World, seed: int, index: int, slot: int) -> str:
    name = f"miniworld/{world.version}/{world.seed}/{seed}/{index}/{slot}"
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def _png(scene: Scene) -> bytes:
    buffer = io.BytesIO()
    draw(scene).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()
