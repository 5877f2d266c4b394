"""A run recorded from a training loop that is not ours."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import StoreFactory
from toolkit.errors import InputError, StoreError
from toolkit.store import Store
from toolkit.store.connection import effective_labels
from toolkit.store.record import RunRecorder, record
from toolkit.store.runs import run_about
from toolkit.store.trajectory import read_trajectory


@pytest.fixture
def store(make_store: StoreFactory) -> Store:
    return make_store(pairs=12)


def sides(store: Store) -> tuple[list[str], np.ndarray]:
    table = effective_labels(store)
    return table["pair_id"].to_pylist(), table["label"].to_numpy()


def by_role(recorder: RunRecorder, ids: list[str], step: int, **more: object) -> None:
    n = len(ids)
    recorder.append(
        pair_id=ids,
        step=step,
        timestep=np.full(n, 500),
        err_chosen=np.full(n, 0.1),
        err_rejected=np.full(n, 0.4),
        err_ref_chosen=np.full(n, 0.2),
        err_ref_rejected=np.full(n, 0.3),
        **more,
    )


def test_errors_by_role_are_stored_by_image(store: Store) -> None:
    ids, label = sides(store)
    with record(store, "mine") as recorder:
        by_role(recorder, ids, step=0)
    columns = ["pair_id", "err_0", "err_1", "err_ref_0", "err_ref_1", "label"]
    rows = {row["pair_id"]: row for row in read_trajectory(store, "mine", columns).to_pylist()}
    for pair_id, y in zip(ids, label, strict=True):
        chosen, rejected = ("0", "1") if y == 1 else ("1", "0")
        assert rows[pair_id][f"err_{chosen}"] == pytest.approx([0.1])
        assert rows[pair_id][f"err_{rejected}"] == pytest.approx([0.4])
        assert rows[pair_id][f"err_ref_{chosen}"] == pytest.approx(0.2)
        assert rows[pair_id][f"err_ref_{rejected}"] == pytest.approx(0.3)
        assert rows[pair_id]["label"] == y


def test_visits_are_counted_by_pair(store: Store) -> None:
    ids, _ = sides(store)
    with record(store, "mine") as recorder:
        by_role(recorder, ids[:3], step=0)
        by_role(recorder, ids[2:4], step=1)
    rows = read_trajectory(store, "mine", ["pair_id", "visit", "step"]).to_pylist()
    visits = sorted((row["pair_id"], row["visit"]) for row in rows)
    assert visits == sorted([(i, 0) for i in ids[:4]] + [(ids[2], 1)])


def test_the_run_says_that_it_is_finished_and_how(store: Store) -> None:
    ids, _ = sides(store)
    with record(store, "mine", beta=500.0, timesteps=400) as recorder:
        by_role(recorder, ids, step=6)
    about = run_about(store, "mine")
    assert about["finished"] is True
    assert about["steps"] == 7
    assert about["models"] == ["policy"]
    assert about["metric"] == {"preset": "history"}
    assert about["objective"] == {"beta": 500.0}
    assert about["train_timesteps"] == 400


def test_several_models_and_torch_tensors(store: Store) -> None:
    torch = pytest.importorskip("torch")
    ids, _ = sides(store)
    n = len(ids)
    half = torch.full((2, n), 0.25, dtype=torch.bfloat16)
    reference = torch.full((n,), 0.5, requires_grad=True)
    with record(store, "mine", models=["policy", "ema"]) as recorder:
        recorder.append(
            pair_id=ids,
            step=0,
            timestep=torch.arange(n),
            err_0=half,
            err_1=half,
            err_ref_0=reference,
            err_ref_1=reference,
        )
    rows = read_trajectory(store, "mine", ["err_0", "timestep"]).to_pylist()
    assert {tuple(row["err_0"]) for row in rows} == {(0.25, 0.25)}
    assert sorted(row["timestep"] for row in rows) == list(range(n))
    assert run_about(store, "mine")["metric"] == {"preset": "running"}


def test_an_exception_leaves_an_unfinished_run_with_its_rows(store: Store) -> None:
    ids, _ = sides(store)

    def interrupted() -> None:
        with record(store, "mine") as recorder:
            by_role(recorder, ids, step=0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert run_about(store, "mine")["finished"] is False
    assert read_trajectory(store, "mine", ["step"]).num_rows == len(ids)


def test_what_does_not_fit_is_a_sentence(store: Store) -> None:
    ids, _ = sides(store)
    flat = np.zeros(len(ids))
    with record(store, "mine", models=["policy", "ema"]) as recorder:
        with pytest.raises(InputError, match=r"no pair 'x'"):
            by_role(recorder, ["x"], step=0)
        with pytest.raises(InputError, match=r"err_chosen has shape \(1, 12\).*give \(2, 12\)"):
            by_role(recorder, ids, step=0)
        with pytest.raises(InputError, match=r"was given err_0; give all of err_chosen"):
            recorder.append(pair_id=ids, step=0, timestep=flat, err_0=np.zeros((2, len(ids))))
        with pytest.raises(InputError, match=r"was given no errors"):
            recorder.append(pair_id=ids, step=0, timestep=flat)
        both = np.zeros((2, len(ids)))
        recorder.append(
            pair_id=ids,
            step=0,
            timestep=flat,
            err_0=both,
            err_1=both,
            err_ref_0=flat,
            err_ref_1=flat,
        )
    with pytest.raises(StoreError, match=r"has a run 'mine' already"), record(store, "mine"):
        pass
    with pytest.raises(InputError, match=r"no preset 'swift'"), record(store, "b", preset="swift"):
        pass
    with pytest.raises(InputError, match="each of the models once"), record(store, "b", models=[]):
        pass
    with pytest.raises(StoreError, match=r"recorded no rows"), record(store, "empty"):
        pass


def test_a_tie_has_no_chosen_image(store: Store) -> None:
    ids, _ = sides(store)
    overlay = {"pair_id": [ids[0]], "label": pa.array([0.5], pa.float32())}
    folder = store.folder("labels")
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(overlay), folder / "tied.parquet")
    (folder / "tied.json").write_text(json.dumps({"kind": "imported"}))
    with (
        pytest.raises(InputError, match="no chosen image"),
        record(store, "mine", labels="tied") as recorder,
    ):
        by_role(recorder, ids, step=0)
