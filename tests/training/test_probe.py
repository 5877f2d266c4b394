from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.trajectory import COLUMNS, load
from tests.factories import StoreFactory
from toolkit.errors import TrainingError
from toolkit.files.atomic import parts
from toolkit.store import Store
from toolkit.store.trajectory import read_trajectory
from training.batches import probe_batch
from training.checkpoint import read_log
from training.pairs import probe_members
from training.probe import accuracy, probe_run
from training.recipe import Recipe
from training.step import errors_of
from training.trainer import Trainer, resume, train

MakeRecipe = Callable[..., Recipe]

FIXED = ("pair_id", "draw", "timestep", "err_ref_0", "err_ref_1")


def probes(store: Store, run: str = "r") -> list[dict]:
    rows = []
    for rank in store.run(run).glob("trajectory/rank-*"):
        for part in parts(rank):
            rows += pq.read_table(part, filters=[("kind", "=", "probe")]).to_pylist()
    return sorted(rows, key=lambda row: (row["step"], row["visit"], row["pair_id"], row["draw"]))


def fixed(rows: list[dict], step: int) -> list[tuple]:
    return [tuple(row[name] for name in FIXED) for row in rows if row["step"] == step]


def test_a_probe_meets_the_same_pairs_under_the_same_draws_at_every_step_and_in_every_run(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store()
    ask = {"steps": 4, "probe": {"every": 2, "pairs": 5, "draws": 3}, "batch_size": 4}
    train(recipe_for(store, **ask))
    train(recipe_for(store, **ask, run="s", labels="original"))
    rows = probes(store)
    assert len(rows) == 2 * 5 * 3
    assert {(row["step"], row["visit"]) for row in rows} == {(2, 1), (4, 2)}
    assert fixed(rows, 2) == fixed(rows, 4) == fixed(probes(store, "s"), 4)
    for pair in {row["pair_id"] for row in rows}:
        times = sorted(r["timestep"] for r in rows if r["pair_id"] == pair and r["step"] == 2)
        assert [t * 3 // 1000 for t in times] == [0, 1, 2]  # stratified over the schedule
    assert [row["err_0"] for row in rows[:15]] != [row["err_0"] for row in rows[15:]]
    assert all(len(row["err_0"]) == 3 for row in rows)
    assert all(row["minority"] is None and row["weight"] is None for row in rows)


def test_held_out_pairs_are_measured_and_never_trained_on(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store(pairs=30, held_out=10)
    train(recipe_for(store, steps=4, held_out={"every": 2, "draws": 2}))
    measured = {row["pair_id"] for row in probes(store)}
    trained = set()
    for part in parts(store.run("r") / "trajectory" / "rank-0"):
        trained |= set(pq.read_table(part, filters=[("kind", "=", "train")])["pair_id"].to_pylist())
    assert len(measured) == 10
    assert not measured & trained
    entries = read_log(store.run("r"), "held_out.jsonl")
    assert [entry["step"] for entry in entries] == [2, 4]
    last = [row for row in probes(store) if row["step"] == 4]
    mean = dict.fromkeys(measured, 0.0)
    for row in last:
        slots = (row["err_ref_0"] - row["err_ref_1"]) - (row["err_0"][0] - row["err_1"][0])
        mean[row["pair_id"]] += slots if row["label"] == 1 else -slots
    assert entries[1]["accuracy"] == np.mean([ell > 0 for ell in mean.values()])
    assert entries[1]["low"] < entries[1]["accuracy"] < entries[1]["high"]


def test_the_reference_is_asked_once_about_a_held_out_pair_and_its_errors_stay_to_the_bit(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, held_out = make_store(pairs=30, held_out=10), {"every": 2, "draws": 2}
    ask = {"steps": 4, "batch_size": 5, "held_out": held_out, "footprints": [0.9]}
    asked = []

    def seen(*given: object) -> object:
        asked.append(given)
        return errors_of(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("training.step.errors_of", seen)
    train(recipe_for(store, **ask))
    # 4 steps by policy, reference and footprint; 2 measurings of 2 batches x 2 draws by the
    # footprint, and the first time by the reference.
    assert len(asked) == 3 * 4 + 2 * 4 + 4
    rows = probes(store)
    assert fixed(rows, 2) == fixed(rows, 4)
    never_kept = property(lambda _: None, lambda *_: None)
    monkeypatch.setattr(Trainer, "held_out_reference", never_kept, raising=False)
    train(recipe_for(store, **ask, run="anew"))
    assert list(map(repr, probes(store, "anew"))) == list(map(repr, rows))


def test_wilsons_interval_is_the_published_one() -> None:
    """Wilson (1927) for 8 of 10: .490 to .943."""
    share, low, high = accuracy(np.array([1.0] * 8 + [-1.0] * 2))
    assert (share, round(low, 3), round(high, 3)) == (0.8, 0.490, 0.943)


def test_the_members_of_a_probe_depend_on_its_seed_and_their_own_ids_alone() -> None:
    names = [f"pair-{k}" for k in range(100)]
    assert probe_members(0, names, 10) == probe_members(0, names, 10)
    assert probe_members(0, names, 10) != probe_members(1, names, 10)
    assert probe_members(0, names[:5], None) == probe_members(3, names[:5], 9) == [0, 1, 2, 3, 4]
    many = probe_members(0, names, 50)
    assert len(set(many)) == 50
    assert many == sorted(many)
    # A run that lacks a pair measures the other 49, and another one in the absent one's place.
    gone = many[20]
    fewer = [name for name in names if name != names[gone]]
    assert set(many) - {names.index(fewer[k]) for k in probe_members(0, fewer, 50)} == {gone}


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_checkpoint_measures_afterwards_what_the_run_measured_then(
    kind: str, make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store()
    train(
        recipe_for(
            store,
            steps=4,
            checkpoint_every=2,
            probe={"every": 2, "pairs": 40, "draws": 2},
            backbone={"train": kind},
        )
    )
    then = probes(store)
    assert probe_run(store, "r", draws=2, step=2) == 40
    now = [row for row in probes(store) if row["visit"] > 4]
    assert len(now) == 80
    for name in (*FIXED, "err_0", "err_1"):
        early = [row[name] for row in then if row["step"] == 2]
        assert early == [row[name] for row in now]


def test_the_same_question_is_answered_once_and_another_anew(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store()
    train(recipe_for(store, steps=2))
    ids = sorted({row.as_py() for row in pq.read_table(parts(store.folder("pairs"))[0])["pair_id"]})
    assert probe_run(store, "r", draws=2, pair_ids=ids[:7]) == 7
    assert probe_run(store, "r", draws=2, pair_ids=ids[:9]) == 2
    assert probe_run(store, "r", draws=2, pair_ids=ids[:9]) == 0
    assert probe_run(store, "r", draws=3, pair_ids=ids[:9]) == 9
    assert len(probes(store)) == 9 * 2 + 9 * 3
    assert {row["visit"] for row in probes(store)} == {3, 4}
    with pytest.raises(TrainingError, match=r"no checkpoint at step 7 .steps: 2.;"):
        probe_run(store, "r", draws=2, step=7)
    with pytest.raises(TrainingError, match="None of these pairs can be measured"):
        probe_run(store, "r", draws=2, pair_ids=["stranger"])


def test_a_number_that_a_longer_run_came_to_use_too_is_another_probe(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    """After two steps a probe by hand is number 3; the run's own third is of step 3."""
    store = make_store(pairs=6)
    train(recipe_for(store, steps=2, batch_size=3, probe={"every": 1, "pairs": 6, "draws": 1}))
    assert probe_run(store, "r", draws=1, step=2) == 6
    resume(store, "r", steps=4)
    assert sorted({(row["visit"], row["step"]) for row in probes(store)}) == [
        (1, 1),
        (2, 2),
        (3, 2),
        (3, 3),
        (4, 4),
    ]
    assert probe_run(store, "r", draws=1, step=2) == 0
    table = read_trajectory(store, "r", list(COLUMNS))
    read = load(table, ["policy", "ema_0.9999", "ema_0.5"])
    assert len(read.pair) == table.num_rows, "no row counts as one that was met before"


def test_a_probe_under_another_backbone_is_refused(
    make_store: StoreFactory, recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    store = make_store()
    train(recipe_for(store, steps=2, backbone={"train": "full"}))
    file = store.run("r") / "recipe.yaml"
    from tests.training.backbones import tiny_sd

    other = tiny_sd(tmp_path / "other", seed=5)
    old = recipe_for(store).backbone.path
    file.write_text(file.read_text().replace(old, str(other)))
    changed = r"its reference weights and its backbone \(the UNet's files or its noise schedule\)"
    with pytest.raises(TrainingError, match=f"because {changed} changed since it began"):
        probe_run(store, "r", draws=1)


def test_an_interrupted_probe_goes_on_with_the_draws_that_are_missing(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after each number of (batch, draw) in turn: every draw is there once, and the same
    errors as of a probe that nobody stopped."""
    store = make_store(pairs=10)
    train(recipe_for(store, steps=2, batch_size=6))
    left = [0]

    def stops(*given: object, **options: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return probe_batch(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("training.probe.probe_batch", stops)
    for allowed in (1, 2, 1, 3):
        left[0] = allowed
        with pytest.raises(KeyboardInterrupt):
            probe_run(store, "r", draws=4)
    left[0] = 100
    probe_run(store, "r", draws=4)
    stopped = probes(store)
    assert len(stopped) == 40
    assert len({(row["pair_id"], row["draw"]) for row in stopped}) == 40
    assert probe_run(store, "r", draws=4) == 0
    for part in parts(store.run("r") / "trajectory" / "rank-0"):
        part.unlink()
    assert probe_run(store, "r", draws=4) == 10
    for one, other in zip(stopped, probes(store), strict=True):
        assert [one[name] for name in FIXED] == [other[name] for name in FIXED]
        assert one["err_0"] == pytest.approx(other["err_0"], rel=1e-5)
