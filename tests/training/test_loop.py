import json
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from accelerate.state import AcceleratorState

from tests.factories import StoreFactory, png
from tests.polling import wait_for
from tests.training.conftest import Lines
from toolkit.errors import BrokenLoss, OutvotedError, RecipeError, StoreError, TrainingError
from toolkit.files.atomic import parts, write_part
from toolkit.schema import PAIRS
from toolkit.store import Store, connect, open_store
from toolkit.store.connection import add_trajectory, fetch
from toolkit.store.journal import Entry, Journal
from toolkit.store.runs import run_about
from toolkit.store.verdicts import publish
from training import trainer as loop
from training.checkpoint import checkpoints, read_log
from training.ema import trainable
from training.metrics_log import Log, status
from training.pairs import load_pairs, published_verdicts
from training.recipe import Recipe
from training.sampling import policy_of
from training.step import Batch, Learner, Record
from training.trainer import train

MakeRecipe = Callable[..., Recipe]


def rows_of(store: Store, run: str = "r") -> list[dict]:
    with connect(store) as con:
        add_trajectory(con, store, run)
        return fetch(con, "SELECT * FROM trajectory ORDER BY step, micro, pair_id").to_pylist()


def ell(row: dict, model: int) -> float:
    slots = (row["err_ref_0"] - row["err_ref_1"]) - (row["err_0"][model] - row["err_1"][model])
    return slots if row["label"] == 1 else -slots


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_run_starts_at_its_reference_moves_away_and_records_every_pair(
    family: str,
    kind: str,
    make_store: StoreFactory,
    recipe_for: MakeRecipe,
    request: pytest.FixtureRequest,
) -> None:
    store = make_store()
    path = str(request.getfixturevalue(family))
    train(recipe_for(store, backbone={"train": kind, "path": path}, accumulation=2))
    rows = rows_of(store)
    assert len(rows) == 8 * 20
    first = [row for row in rows if row["step"] == 0]
    assert all(ell(row, model) == 0 for row in first for model in range(3))
    assert all(row["loss"] == pytest.approx(np.log(2), rel=1e-6) for row in first)
    last = [row for row in rows if row["step"] == 7]
    assert min(abs(ell(row, 0)) for row in last) > 0
    assert {row["visit"] for row in rows} == {0, 1, 2, 3}
    assert run_about(store, "r")["models"] == ["policy", "ema_0.9999", "ema_0.5"]
    assert run_about(store, "r")["finished"] is True


def test_training_raises_ell_of_its_own_labels(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    """Ten pairs met 30 times on the same draw are memorised: the model agrees with its labels."""
    store = make_store(pairs=10)
    train(
        recipe_for(
            store,
            steps=30,
            backbone={"train": "full"},
            objective={"name": "diffusion_dpo"},
            draws={"kind": "fixed", "count": 1},
            footprints=[],
            metric={"preset": "history"},
        )
    )
    late = [ell(row, 0) for row in rows_of(store) if row["step"] >= 27]
    assert np.mean(np.array(late) > 0) > 0.9


def test_the_same_recipe_leaves_the_same_rows(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store()
    train(recipe_for(store, run="a", steps=4))
    train(recipe_for(store, run="b", steps=4))
    assert rows_of(store, "a") == rows_of(store, "b")
    train(recipe_for(store, run="c", steps=4, seed=1))
    assert rows_of(store, "a") != rows_of(store, "c")


def test_a_flipped_label_changes_the_sign_of_the_first_step_gradient_only(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    """At step 0 the errors by slot are the label set's business to sign, not to change."""
    store = make_store(run=True)
    train(recipe_for(store, run="plain", steps=1, footprints=[], metric={"preset": "history"}))
    train(
        recipe_for(
            store, run="flip", steps=1, labels="flip20", footprints=[], metric={"preset": "history"}
        )
    )
    plain = {row["pair_id"]: row for row in rows_of(store, "plain")}
    flipped = {row["pair_id"]: row for row in rows_of(store, "flip")}
    assert plain.keys() == flipped.keys()
    assert any(plain[k]["label"] != flipped[k]["label"] for k in plain)
    for key, row in plain.items():
        assert row["err_ref_0"] == pytest.approx(flipped[key]["err_ref_0"], rel=1e-5)
        assert row["err_ref_1"] == pytest.approx(flipped[key]["err_ref_1"], rel=1e-5)


def test_adapters_load_into_a_diffusers_pipeline(
    make_store: StoreFactory, recipe_for: MakeRecipe, sd: Path
) -> None:
    from diffusers import StableDiffusionPipeline

    store = make_store()
    train(recipe_for(store))
    folder = store.run("r") / "checkpoints" / "step-000008"
    pipeline = StableDiffusionPipeline.from_pretrained(sd)
    ask = {"prompt": "a square", "num_inference_steps": 2, "height": 16, "width": 16}
    images = []
    for adapted in (False, True):
        if adapted:
            pipeline.load_lora_weights(folder)
        rng = torch.Generator().manual_seed(0)
        images.append(np.array(pipeline(**ask, generator=rng, output_type="np").images))
    assert np.abs(images[0] - images[1]).max() > 1e-4
    assert (folder / "ema_0.5.safetensors").exists()


def test_ties_and_unlabelled_pairs_are_left_out_and_counted(make_store: StoreFactory) -> None:
    store = make_store()
    part = parts(store.folder("pairs"))[0]
    table = pa.parquet.read_table(part)
    labels = table["label"].to_pylist()
    labels[:3] = [0.5, 0.5, None]
    spot = PAIRS.get_field_index("label")
    part.unlink()
    column = pa.array(labels, pa.float64())
    write_part(part.parent, table.set_column(spot, PAIRS.field(spot), [column]))
    pairs = load_pairs(store, labels="original", split="train", verdicts=published_verdicts(store))
    assert len(pairs) == 37
    assert pairs.left_out == {"tie": 2, "unlabelled": 1}


def test_published_verdicts_act_as_their_table_says(
    make_store: StoreFactory, tmp_path: Path
) -> None:
    store = make_store()
    before = load_pairs(store, labels="original", split="train", verdicts=published_verdicts(store))
    ids = before.pair_id.tolist()
    other = "image_1" if before.label[0] == 1 else "image_0"
    journal = Journal(tmp_path / "verdicts.sqlite")
    choices = (other, "tie", "drop", "unsure")
    saved = journal.record(
        [Entry(pair, "tester", choice) for pair, choice in zip(ids, choices, strict=False)]
    )
    publish(store, journal)
    after = load_pairs(store, labels="original", split="train", verdicts=published_verdicts(store))
    assert after.left_out == {"verdict tie": 1, "verdict drop": 1}
    assert after.label[0] == 1 - before.label[0]
    assert after.verdict_id[0] == saved[0]["verdict_id"]
    assert after.pair_id.tolist()[1] == ids[3]
    assert after.verdict_id[1] is None
    ignored = load_pairs(store, labels="original", split="train")
    assert ignored.left_out == {}


def test_a_killed_run_leaves_a_store_that_opens(
    make_store: StoreFactory, recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    store = make_store(pairs=10)
    file = tmp_path / "r.yaml"
    file.write_text(recipe_for(store, steps=100_000, checkpoint_every=5, log_every=1).to_yaml())
    command = "from app.cli.main import main; main()"
    process = subprocess.Popen([sys.executable, "-c", command, "train", str(file)])
    folder = store.run("r") / "trajectory" / "rank-0"
    wait_for(lambda: parts(folder) or process.poll() is not None, "rows of the run")
    assert parts(folder)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (folder / ".part-000099.parquet.99999999.unfinished").write_bytes(b"PAR1 half")
    again = open_store(store.root)
    rows = rows_of(again)
    assert len(rows) >= 50
    assert [p.name for p in again.unfinished()][-1] == ".part-000099.parquet.99999999.unfinished"
    assert run_about(again, "r")["finished"] is False


def test_what_stands_against_a_run_is_said_in_a_sentence(
    make_store: StoreFactory, recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    store = make_store()
    cases: list[tuple[Recipe, type[OutvotedError], str]] = [
        (recipe_for(store, labels="gone"), StoreError, "no label set 'gone' .sets: original."),
        (recipe_for(store, split="test"), TrainingError, "no pairs of split 'test'"),
        (recipe_for(store, backbone={"path": "nowhere"}), TrainingError, "not a diffusers folder"),
        (recipe_for(store, footprints=[]), RecipeError, "footprints"),
        (recipe_for(Store(tmp_path / "none")), StoreError, "There is no store at"),
    ]
    for recipe, kind, says in cases:
        with pytest.raises(kind, match=says):
            train(recipe)
        assert not (store.run("r") / "run.json").exists()
    train(recipe_for(store))
    with pytest.raises(TrainingError, match="has a run 'r' already"):
        train(recipe_for(store))


def test_an_image_that_went_bad_is_named(make_store: StoreFactory, recipe_for: MakeRecipe) -> None:
    store = make_store()
    part = parts(store.folder("images"))[0]
    table = pa.parquet.read_table(part)
    data = [png((1, 2, 3))[:40]] * table.num_rows
    spot = table.schema.get_field_index("bytes")
    part.unlink()
    write_part(part.parent, table.set_column(spot, table.schema.field(spot), [data]))
    with pytest.raises(TrainingError, match=r"Image img-.* cannot be trained on"):
        train(recipe_for(store))


def test_a_loss_that_is_not_a_number_stops_the_run_with_its_rows_kept(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store()
    wild = recipe_for(store, steps=40, log_every=1, optimiser={"learning_rate": 1e9})
    with pytest.raises(TrainingError, match="The loss became"):
        train(wild)
    assert len(rows_of(store)) >= 20


def test_weights_that_broke_after_a_sound_loss_take_no_checkpoints_place(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    real = loop.train_step

    def breaks(learner: Learner, batches: Iterator[Batch], count: int, step: int) -> list[Record]:
        rows = real(learner, batches, count, step)
        if step == 5:
            with torch.no_grad():
                next(iter(trainable(learner.policy).values())).fill_(torch.inf)
        return rows

    monkeypatch.setattr(loop, "train_step", breaks)
    with pytest.raises(BrokenLoss, match="Weights are inf or NaN after step 6"):
        train(recipe_for(store, checkpoint_every=2))
    assert list(checkpoints(store.run("r"))) == [2, 4]
    losses = [row["loss"] for row in rows_of(store)]
    assert len(losses) == 6 * 10
    assert np.isfinite(losses).all()


@pytest.fixture
def other_format() -> Iterator[None]:
    """accelerate keeps to the format that a process began in, and these tests share one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("other_format")
def test_in_bf16_the_base_is_halved_and_adapters_and_footprints_stay_float32(
    make_store: StoreFactory,
    recipe_for: MakeRecipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    formats: dict[str, set[torch.dtype]] = {}
    real = loop.train_step

    def seen(learner: Learner, *given: Any) -> object:
        for name, tensor in learner.policy.named_parameters():
            kind = "adapter" if ".lora_" in name else "base"
            formats.setdefault(kind, set()).add(tensor.dtype)
        kept = [*learner.reference.values(), *learner.footprints[0].tensors.values()]
        formats["kept"] = {tensor.dtype for tensor in kept}
        return real(learner, *given)

    monkeypatch.setattr(loop, "train_step", seen)
    store = make_store(pairs=10)
    train(recipe_for(store, steps=2, precision="bf16", metric={"preset": "running"}))
    assert formats == {
        "base": {torch.bfloat16},
        "adapter": {torch.float32},
        "kept": {torch.float32},
    }
    start = [row for row in rows_of(store) if row["step"] == 0]
    assert all(row["err_0"][0] == row["err_ref_0"] for row in start)
    assert len(start) == 10


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to train on in fp16")
def test_half_precision_of_gpus_is_refused_on_a_cpu(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store()
    with pytest.raises(TrainingError, match="precision fp16 needs a GPU"):
        train(recipe_for(store, precision="fp16"))
    assert store.runs() == []


def test_v_prediction_trains_towards_velocities(
    make_store: StoreFactory, recipe_for: MakeRecipe, sd: Path, tmp_path: Path
) -> None:
    """The same network under another target: other errors, and ln 2 at the start all the same."""
    store, folder = make_store(), shutil.copytree(sd, tmp_path / "v")
    file = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "prediction_type": "v_prediction"}))
    train(recipe_for(store, steps=2, run="v", backbone={"path": str(folder)}))
    train(recipe_for(store, steps=2))
    velocity, noise = rows_of(store, "v"), rows_of(store)
    assert all(row["loss"] == pytest.approx(np.log(2), rel=1e-6) for row in velocity[:10])
    for one, other in zip(velocity[:10], noise[:10], strict=True):
        assert (one["pair_id"], one["timestep"]) == (other["pair_id"], other["timestep"])
        assert one["err_ref_0"] != pytest.approx(other["err_ref_0"], rel=1e-3)


def test_a_growing_error_on_the_chosen_images_is_told_once(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store, lines = make_store(), Lines()
    rate = {"learning_rate": 0.05}
    train(recipe_for(store, steps=12, log_every=1, optimiser=rate), progress=lines)
    growth = [entry["chosen_growth"] for entry in read_log(store.run("r"), "scalars.jsonl")]
    first = next(step for step, value in enumerate(growth, 1) if value > 0.05)
    text = "\n".join(lines.lines)
    assert text.count("error on the CHOSEN images") == 1
    assert f"Step {first}: the model's error on the CHOSEN images is" in text
    assert "in memory, of 4 GB allowed, at the first visit of each pair" in text


def test_figures_go_to_tensorboard_and_samples_to_the_run(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    store = make_store()
    samples = {"prompts": ["a square", "a number"], "every": 4, "steps": 2, "guidance": 2.0}
    train(recipe_for(store, steps=4, log_every=2, tensorboard=True, samples=samples))
    events = EventAccumulator(str(store.run("r") / "metrics" / "tensorboard"))
    events.Reload()
    assert [point.step for point in events.Scalars("train/loss")] == [2, 4]
    logged = read_log(store.run("r"), "scalars.jsonl")
    shown = [point.value for point in events.Scalars("train/loss")]
    assert shown == pytest.approx([entry["loss"] for entry in logged])
    steps = sorted(path.name for path in (store.run("r") / "samples").iterdir())
    assert steps == ["step-000000", "step-000004"]
    first, last = (store.run("r") / "samples" / step / "01.png" for step in steps)
    assert Image.open(first).size == (16, 16)
    assert first.read_bytes() != last.read_bytes()


def logged_records(data: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log, which an offline W&B run is behind its 7 bytes of header."""
    place, record = 7, b""
    while place + 7 <= len(data):
        room = 32768 - place % 32768
        if room < 7:  # no header fits into the rest of a block
            place += room
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last of its parts
            yield record
            record = b""


def test_figures_go_to_weights_and_biases_where_it_is_asked_for(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb_internal_pb2 = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.setenv("WANDB_MODE", "offline")
    store = make_store()
    train(recipe_for(store, steps=4, log_every=2, wandb="a-project"))
    (file,) = (store.run("r") / "metrics" / "wandb").glob("offline-run-*/*.wandb")
    sent = []
    for data in logged_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        items = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
        if "train/loss" in items:
            sent.append((int(items["step"]), float(items["train/loss"])))
    logged = read_log(store.run("r"), "scalars.jsonl")
    assert sent == [(entry["step"], pytest.approx(entry["loss"])) for entry in logged]


@pytest.mark.parametrize("objective", [{}, {"name": "poly_dpo", "alpha": 8}])
def test_every_gradient_can_be_brought_to_one_norm(
    objective: dict, make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch
) -> None:
    norms = []
    real = torch.optim.AdamW.step

    def seen(self: torch.optim.AdamW, *given: object, **more: object) -> object:
        tensors = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.stack([g.norm() for g in tensors if g is not None]).norm().item())
        return real(self, *given, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", seen)
    optimiser = {"learning_rate": 1e-3, "grad_norm": 0.5}
    train(recipe_for(make_store(), steps=3, objective=objective, optimiser=optimiser))
    assert norms == pytest.approx([0.5] * 3)


def test_a_policy_that_gets_no_gradient_is_noticed(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_args, **_more: None)
    with pytest.raises(TrainingError, match="After 8 steps no trainable tensor has changed"):
        train(recipe_for(make_store()))


def test_gradients_that_are_all_0_are_noticed_though_weight_decay_moves_the_policy(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss, *given: real(loss * 0, *given))
    with pytest.raises(TrainingError, match="In 8 steps every gradient was 0"):
        train(recipe_for(make_store(), optimiser={"learning_rate": 1e-3, "weight_decay": 0.1}))


def test_the_progress_line_shows_a_moving_average_that_a_resumed_run_goes_on_with(
    tmp_path: Path,
) -> None:
    def entry(accuracy: float) -> dict[str, Any]:
        about = {"step": 1, "loss": 0.5, "pairs_per_second": 7.0, "chosen_growth": None}
        return {**about, "accuracy": accuracy}

    first, second, third = entry(0.5), entry(1.0), entry(0.0)
    for some in ((first, second), (third,)):
        log = Log(tmp_path)
        for one in some:
            log.scalars(one)
    found = [one["accuracy_ema"] for one in (first, second, third)]
    assert found == pytest.approx([0.5, 0.55, 0.495])
    assert "ell > 0: 50% · 7 pairs/s" in status(third)  # .495


def test_stored_weights_stand_instead_of_the_live_ones_or_multiply_them(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    from toolkit.store.runs import start_run, write_findings

    store = make_store(pairs=10)
    ids = load_pairs(store, labels="original", split="train").pair_id.tolist()
    start_run(store, "old", {"models": ["policy"], "labels": "original"}, "")
    table = pa.table({"pair_id": ids[:4], "weight": [0.0, 0.5, 2.0, None]})
    write_findings(store, "old", "trust", table, {})
    weights = {"run": "old", "finding": "trust"}
    metric = {"preset": "running", "rms_min_count": 2}
    for mode in ("instead", "times"):
        train(recipe_for(store, run=mode, metric=metric, weights={**weights, "mode": mode}))
    last = {
        mode: {row["pair_id"]: row for row in rows_of(store, mode) if row["step"] == 7}
        for mode in ("instead", "times")
    }
    assert [last["instead"][k]["weight"] for k in ids[:3]] == [0.0, 0.5, 2.0]
    assert last["instead"][ids[0]]["loss"] == 0
    assert last["instead"][ids[4]]["weight"] < 1
    for spot, factor in ((1, 0.5), (2, 2.0)):
        row = last["times"][ids[spot]]
        assert row["weight"] == pytest.approx(factor / (1 + 10 * row["minority"]), rel=1e-5)
    with pytest.raises(RecipeError, match="has no column 'gone'; it has weight"):
        train(recipe_for(store, weights={**weights, "column": "gone"}))


def test_a_network_that_accelerate_splits_is_refused(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    store = make_store()
    with pytest.raises(TrainingError) as refused:
        train(recipe_for(store))
    assert str(refused.value) == (
        "accelerate was set up for FSDP, which splits the network that reference and footprints "
        "are read through; launch with --multi_gpu (DDP) instead, and set network.shard: true "
        "to divide a network in full fine-tuning."
    )
    assert store.runs() == []


def test_a_backbone_that_the_hub_does_not_give_is_a_sentence(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    recipe = recipe_for(make_store(), backbone={"path": "hub:nobody/nothing-at-all"})
    with pytest.raises(TrainingError, match="hub:nobody/nothing-at-all cannot be fetched"):
        policy_of("hub:nobody/nothing-at-all")  # what `outvoted evaluate` is given
    with pytest.raises(TrainingError, match="hub:nobody/nothing-at-all cannot be fetched"):
        train(recipe)
