"""The Python face: every line of its documentation, on stores and on anybody's frames."""

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import outvoted as ov
from tests.app.desk_pages import open_page, shown
from tests.factories import StoreFactory


@pytest.fixture
def s(make_store: StoreFactory) -> ov.Store:
    return ov.open(make_store(run=True, signal=0.4).root)


def analyzed(s: ov.Store) -> ov.Store:
    s.analyze("r", open_images=False)
    return s


def test_pairs_are_one_arrow_table_with_labels_findings_and_verdicts(s: ov.Store) -> None:
    df = analyzed(s).pairs(
        labels="flip20", run="r", columns=["minority", "is_flipped", "verdict", "prompt"]
    )
    assert df.column_names == ["pair_id", "minority", "is_flipped", "verdict", "prompt"]
    assert df.num_rows == 40
    assert sum(df["is_flipped"].to_pylist()) == 8
    assert df["minority"].null_count == 0
    frame = df.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert pl.DataFrame(df).shape == (40, 5)


def test_where_and_unknown_columns(s: ov.Store) -> None:
    assert s.pairs(columns=["prompt"], where='prompt = "a square number 3"').num_rows == 4
    with pytest.raises(ov.InputError, match=r"no column 'colour'.*prompt"):
        s.pairs(columns=["colour"])
    assert s.column_kinds()["votes"] == "number"


def test_detection_reads_a_store_table_and_any_frame_alike(s: ov.Store) -> None:
    df = analyzed(s).pairs(labels="flip20", run="r", columns=["minority", "is_flipped", "prompt"])
    how = {"score": "minority", "flipped": "is_flipped", "group": "prompt"}
    arrow = ov.detect(df, **how)
    assert arrow.auroc.low < arrow.auroc.value < arrow.auroc.high
    assert ov.detect(df.to_pandas(), **how) == arrow
    assert ov.detect(pl.DataFrame(df), **how) == arrow
    lower = df.set_column(1, "minority", pa.array(-df["minority"].to_numpy()))
    assert ov.detect(lower, **how, direction="low").auroc == arrow.auroc
    with pytest.raises(ov.InputError, match=r"'suspicion'.*minority"):
        ov.detect(df, score="suspicion", flipped="is_flipped")


def test_detectors_take_arrays_and_give_an_array() -> None:
    rng = np.random.default_rng(0)
    pair = np.repeat([f"p{k:03d}" for k in range(100)], 8)
    agrees = np.repeat(np.arange(100) >= 20, 8)
    timestep = rng.integers(0, 1000, 800)
    ell = np.where(agrees, 1, -1) * 1e-3 + rng.normal(0, 2e-3, 800)
    score = ov.detectors.trajectory_ell(ell=ell, pair=pair, timestep=timestep)
    assert score.shape == (100,)
    found = ov.detect(
        pd.DataFrame({"score": score, "flipped": np.arange(100) < 20}),
        score="score",
        flipped="flipped",
    )
    assert found.auroc.value > 0.8


def test_figures_take_pandas_polars_and_arrow(s: ov.Store) -> None:
    df = analyzed(s).pairs(
        labels="flip20",
        run="r",
        columns=["cartography.cartography_confidence", "cartography.variability", "is_flipped"],
    )
    df = df.rename_columns([name.split(".")[-1] for name in df.column_names])
    drawn = [
        ov.plot.cartography(frame).to_json() for frame in (df, df.to_pandas(), pl.DataFrame(df))
    ]
    assert drawn[0] == drawn[1] == drawn[2]
    assert "cartography" in dir(ov.plot)
    with pytest.raises(AttributeError, match="no figure 'pie'"):
        ov.plot.pie(df)


def recorded(s: ov.Store) -> ov.Store:
    """The store with a run "mine", recorded by a loop that is not ours, and its findings."""
    table = s.pairs(columns=["label"])
    ids, rng = table["pair_id"].to_pylist(), np.random.default_rng(0)
    with s.record("mine", models=["policy"]) as recorder:
        for step in range(30):
            noise = rng.uniform(0.1, 0.2, (4, len(ids)))
            recorder.append(
                pair_id=ids,
                step=step,
                timestep=rng.integers(0, 1000, len(ids)),
                err_chosen=noise[0],
                err_rejected=noise[1] + 0.05,
                err_ref_chosen=noise[2],
                err_ref_rejected=noise[3],
            )
    s.analyze("mine", open_images=False)
    return s


def test_a_recorded_run_is_analyzed_like_any_other(s: ov.Store) -> None:
    assert {"mine", "r"} == set(recorded(s).runs)
    scores = s.pairs(run="mine", columns=["trajectory_ell.trajectory_ell", "confidence"])
    assert scores["trajectory_ell.trajectory_ell"].null_count == 0
    assert np.mean(scores["confidence"].to_numpy()) < 0.5  # the policy agrees with the labels
    assert s.trajectory("mine", ["pair_id", "visit"]).num_rows == 30 * 40


def test_the_desk_opens_a_recorded_run(s: ov.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store = recorded(s).store
    for page, words in (("queue", "a square number"), ("runs", "mine")):
        app = open_page(monkeypatch, store, page, run="mine")
        assert not app.exception
        assert words in shown(app)


def test_label_sets_are_listed_and_made(s: ov.Store) -> None:
    made = s.labels.flip(0.5, seed=3, name="flip50")
    assert made.changed == 20
    assert {"flip20", "flip50"} <= set(s.labels)
    assert "flip50" in s.labels
    assert s.labels.recipe("flip50")["seed"] == 3
    assert sum(s.pairs(labels="flip50", columns=["is_flipped"])["is_flipped"].to_pylist()) == 20
    assert "majority" in dir(s.labels)
    with pytest.raises(ov.InputError, match="votes"):
        s.labels.majority(min_votes=9)
    with pytest.raises(AttributeError, match="no label maker 'guess'"):
        s.labels.guess()


def test_an_export_by_keyword(s: ov.Store, tmp_path) -> None:
    outcome = analyzed(s).export(tmp_path / "out", run="r", drop="minority > 0.5", images=False)
    assert outcome.out == tmp_path / "out"
    kept = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")
    scores = s.pairs(labels="flip20", run="r", columns=["minority"])["minority"].to_numpy()
    assert len(kept) == int((scores <= 0.5).sum())
    with pytest.raises(ov.InputError, match=r"no format 'zip'.*pickapic, chosen-rejected"):
        s.export(tmp_path / "b", format="zip")


def test_a_store_is_created_and_refused_by_a_sentence(tmp_path) -> None:
    store = ov.create(tmp_path / "new")
    assert store.runs == []
    assert repr(ov.open(tmp_path / "new")) == f"outvoted.open({str(tmp_path / 'new')!r})"
    with pytest.raises(ov.OutvotedError, match="There is no store at"):
        ov.open(tmp_path / "nowhere")


def test_importing_it_is_light() -> None:
    heavy = ["torch", "polars", "plotly", "sklearn", "streamlit", "pandas", "scipy"]
    code = f"import sys, outvoted; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
