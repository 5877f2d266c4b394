"""A run read in chunks is the run: whatever the ranks, parts, resumes and chunk sizes."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from analysis.pair_stats import SCORES, digest
from analysis.trajectory import load
from analysis.trajectory_stream import Stream
from tests.analysis.simulated import simulate
from toolkit.errors import StoreError
from toolkit.files.atomic import write_part
from toolkit.minority import PRESETS
from toolkit.recorder import TRAJECTORY
from toolkit.schema import conform
from toolkit.store import create_store
from toolkit.store.runs import start_run
from toolkit.store.trajectory import trajectory_parts

MODELS = ["policy", "ema_0.99", "ema_0.5"]
METRICS = {
    name: replace(metric, timestep_bins=4, rms_min_count=8.0) for name, metric in PRESETS.items()
}


def written(tmp_path, table: pa.Table, rows_a_part: int = 70, run: str = "r"):
    """A store with the table's rows as a recorder leaves them: by rank, in order of step."""
    store = create_store(tmp_path / "store")
    start_run(store, run, {"models": MODELS, "labels": "original"}, "")
    for rank in sorted(set(table["rank"].to_pylist())):
        write_rank(store, table.filter(pa.compute.equal(table["rank"], rank)), rank, rows_a_part)
    return store


def write_rank(store, table, rank, rows_a_part, run="r", first=0):
    table = table.sort_by([("step", "ascending"), ("micro", "ascending")])
    folder = store.run(run) / "trajectory" / f"rank-{rank}"
    for number, start in enumerate(range(0, table.num_rows, rows_a_part), first):
        part = conform(table.slice(start, rows_a_part), TRAJECTORY)
        write_part(folder, part, name=f"part-{number:06d}.parquet")


def stream_of(store, table, rows=100, run="r"):
    ids = np.array(sorted(set(table["pair_id"].to_pylist())))
    labels = dict(zip(table["pair_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    label = np.array([labels[pair] for pair in ids])
    sign = np.where(label == 1, 1, -1).astype(np.float32)
    return Stream(trajectory_parts(store, run), tuple(MODELS), ids, sign, rows=rows)


def assert_same(one, other):
    np.testing.assert_array_equal(one.visits, other.visits)
    np.testing.assert_allclose(one.tallies.totals, other.tallies.totals, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(one.tallies.counts, other.tallies.counts)
    np.testing.assert_allclose(one.ell.sums, other.ell.sums, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(one.ell.moments, other.ell.moments)
    np.testing.assert_array_equal(one.unseen.counts, other.unseen.counts)
    np.testing.assert_array_equal(one.memory.forgotten, other.memory.forgotten)
    np.testing.assert_array_equal(one.memory.last, other.memory.last)
    np.testing.assert_allclose(one.progress, other.progress, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 100, 10_000])
def test_chunks_of_any_size_give_the_digest_of_the_whole(tmp_path, rows):
    table = simulate(PRESETS["released"])
    whole = digest([load(table, MODELS)], METRICS, beta=300.0)
    store = written(tmp_path, table)
    stream = stream_of(store, table, rows=rows)
    assert_same(digest(stream.chunks(), METRICS, beta=300.0), whole)
    assert not +stream.excluded


def test_chunks_hold_whole_steps_in_order_over_ranks(tmp_path):
    table = simulate(PRESETS["released"], ranks=3, micro_size=3)
    store = written(tmp_path, table, rows_a_part=41)
    steps = [chunk.step for chunk in stream_of(store, table, rows=50).chunks()]
    assert len(steps) > 3
    flat = np.concatenate(steps)
    assert (np.diff(flat) >= 0).all()
    assert len(flat) == table.num_rows
    assert len({int(step) for own in steps for step in set(own.tolist())}) == sum(
        len(set(own.tolist())) for own in steps
    )


def test_a_resumed_run_counts_every_visit_once(tmp_path):
    table = simulate(PRESETS["released"], ranks=1)
    whole = digest([load(table, MODELS)], METRICS, beta=300.0)
    step = np.array(table["step"].to_pylist())
    store = create_store(tmp_path / "store")
    start_run(store, "r", {"models": MODELS, "labels": "original"}, "")
    write_rank(store, table.filter(pa.array(step < 30)), 0, 70)
    write_rank(store, table.filter(pa.array(step >= 22)), 0, 70, first=50)
    stream = stream_of(store, table)
    assert_same(digest(stream.chunks(), METRICS, beta=300.0), whole)
    assert stream.excluded["repeated"] == int(((step >= 22) & (step < 30)).sum())


def test_ranks_of_a_run_that_was_resumed_stay_in_step(tmp_path):
    table = simulate(PRESETS["released"])
    whole = digest([load(table, MODELS)], METRICS, beta=300.0)
    step, rank = (np.array(table[name].to_pylist()) for name in ("step", "rank"))
    store = create_store(tmp_path / "store")
    start_run(store, "r", {"models": MODELS, "labels": "original"}, "")
    for number, end in ((0, 30), (1, 27)):  # one rank had written less when it was killed
        mine = rank == number
        write_rank(store, table.filter(pa.array(mine & (step < end))), number, 45)
        write_rank(store, table.filter(pa.array(mine & (step >= 20))), number, 45, first=50)
    assert_same(digest(stream_of(store, table).chunks(), METRICS, beta=300.0), whole)


def test_strangers_and_broken_rows_are_counted_over_all_chunks(tmp_path):
    table = simulate(PRESETS["released"])
    ids = table["pair_id"].to_pylist()
    errors = table["err_ref_0"].to_pylist()
    models = table["err_0"].to_pylist()
    ids[::100], errors[1::200], models[2::300] = (
        ["stranger"] * len(ids[::100]),
        [float("nan")] * len(errors[1::200]),
        [[0.5]] * len(models[2::300]),
    )
    spoiled = table
    for name, values in (("pair_id", ids), ("err_ref_0", errors), ("err_0", models)):
        kind = spoiled.schema.field(name)
        spoiled = spoiled.set_column(
            spoiled.column_names.index(name), kind, pa.array(values, kind.type)
        )
    store = written(tmp_path, spoiled)
    stream = stream_of(store, table)
    used = sum(len(chunk.pair) for chunk in stream.chunks())
    assert stream.excluded["unknown_pair"] == len(ids[::100])
    assert stream.excluded["not_finite"] == len(errors[1::200])
    assert stream.excluded["wrong_models"] == len(models[2::300])
    assert used == table.num_rows - sum(stream.excluded.values())


def test_a_run_of_strangers_is_a_sentence(tmp_path):
    table = simulate(PRESETS["released"], steps=3)
    store = written(tmp_path, table)
    stream = stream_of(store, table)
    stream.pair_ids = np.array([f"x{k}" for k in range(len(stream.pair_ids))])
    with pytest.raises(StoreError, match=r"None of the run's 48 trajectory rows .*48 of pairs"):
        list(stream.chunks())


def test_a_damaged_part_is_a_sentence(tmp_path):
    table = simulate(PRESETS["released"], steps=4)
    store = written(tmp_path, table)
    part = trajectory_parts(store, "r")[0].path
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(StoreError, match="cannot be read as a part of a trajectory"):
        trajectory_parts(store, "r")


def test_probes_do_not_move_the_running_scale():
    table = simulate(PRESETS["running"], ranks=1)
    probes = table.filter(pa.compute.equal(table["step"], 30))
    kind = pa.array(["probe"] * probes.num_rows)
    probes = probes.set_column(probes.column_names.index("kind"), TRAJECTORY.field("kind"), kind)
    alone = digest([load(table, MODELS)], METRICS)
    both = digest([load(pa.concat_tables([table, probes]), MODELS)], METRICS)
    for name in METRICS:
        for metric in SCORES:
            pair = [found.tallies[f"{name}.{metric}"].mean("all") for found in (alone, both)]
            np.testing.assert_array_equal(*pair)
    assert both.counted("probe").sum() == probes.num_rows
    # A probe is scored as a visit of its step, but by history, whose footprints are visits.
    step = np.array(table["step"].to_pylist())
    until, before = (load(table.filter(pa.array(step < end)), MODELS) for end in (31, 30))
    probed = both.counted("probe") > 0
    for name in ("paper", "released", "running"):
        held = f"{name}.confidence"
        sums = [
            dict(zip(t.pair_ids, digest([t], METRICS).tallies[held].total.sum(axis=0), strict=True))
            for t in (until, before)
        ]
        there = [sums[0][pair] - sums[1].get(pair, 0.0) for pair in both.pair_ids[probed]]
        values = both.tallies[held].mean("probe")[probed]
        np.testing.assert_allclose(values, there, rtol=1e-5)
    assert np.isnan(both.tallies["history.confidence"].mean("probe")).all()
