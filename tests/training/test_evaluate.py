"""Samples for an evaluation: the same noise everywhere, resumable, and never silently another's."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from tests.factories import StoreFactory
from tests.training.backbones import tiny_sd
from toolkit.errors import InputError, TrainingError
from training import evaluate as module
from training.checkpoint import checkpoints
from training.evaluate import SCORERS, Evaluation, evaluate
from training.recipe import Recipe
from training.sampling import SAMPLERS, Sample, Sampling, draw, load_pipeline, noise_of, policy_of
from training.trainer import train

MakeRecipe = Callable[..., Recipe]
ASKED = Evaluation(("a square", "number", "a"), (0, 1), Sampling("ddim", 2, 3.0))


def pixels(table: pa.Table) -> dict[tuple[str, int, int], np.ndarray]:
    return {
        (row["model"], row["prompt_index"], row["seed"]): np.asarray(
            Image.open(io.BytesIO(row["png"])), np.float64
        )
        for row in table.to_pylist()
    }


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def test_noise_belongs_to_prompt_and_seed_and_not_to_batch_or_model(
    sd: Path, tmp_path: Path
) -> None:
    policy = policy_of(str(sd))
    one, _ = evaluate(ASKED, {"a": policy, "b": policy}, tmp_path / "one", batch=1)
    all_, _ = evaluate(ASKED, {"a": policy}, tmp_path / "all", batch=6)
    single, whole = pixels(one), pixels(all_)
    assert len(single) == 12
    assert len(whole) == 6
    for (_, prompt, seed), image in whole.items():
        assert apart(image, single["a", prompt, seed]) <= 2  # rounding of other batch kernels
        assert apart(single["b", prompt, seed], single["a", prompt, seed]) == 0
    assert apart(whole["a", 0, 0], whole["a", 0, 1]) > 2
    assert apart(whole["a", 0, 0], whole["a", 1, 0]) > 2


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_alike_in_any_batch(name: str, sd: Path) -> None:
    """Also those that add noise on the way: it comes from each image's own generator."""
    samples = [Sample(k, "a square", k) for k in range(3)]
    found = []
    for batch in (1, 3):
        pipeline = load_pipeline(policy_of(str(sd)))
        made = draw(pipeline, samples, Sampling(name, 3, 2.0), batch)
        found.append([np.asarray(image, np.float64) for _, images in made for image in images])
    assert all(apart(a, b) <= 2 for a, b in zip(*found, strict=True))
    assert apart(found[0][0], found[0][1]) > 2


def test_a_runs_checkpoint_draws_what_diffusers_draws_from_it(
    sd: Path, make_store: StoreFactory, recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    store = make_store()
    shape = {"lora": {"rank": 4, "alpha": 16}}
    train(recipe_for(store, backbone=shape, optimiser={"learning_rate": 1e-2}, checkpoint_every=4))
    run = store.run("r")
    first, last = checkpoints(run).values()
    assert policy_of(str(run)) == policy_of(str(last))
    models = {"base": policy_of(str(sd)), "early": policy_of(str(first)), "r": policy_of(str(run))}
    samples, _ = evaluate(ASKED, models, tmp_path / "e")
    drawn = pixels(samples)
    assert apart(drawn["base", 0, 0], drawn["r", 0, 0]) > 2
    assert apart(drawn["early", 0, 0], drawn["r", 0, 0]) > 0
    pipeline = StableDiffusionPipeline.from_pretrained(sd)
    pipeline.load_lora_weights(last)
    made = draw(pipeline, [Sample(0, "a square", 0)], ASKED.sampling)
    assert apart(np.asarray(next(made)[1][0], np.float64), drawn["r", 0, 0]) <= 2


def test_a_full_run_is_drawn_from_its_own_network(
    sd: Path, make_store: StoreFactory, recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    store = make_store()
    train(recipe_for(store, backbone={"train": "full"}, optimiser={"learning_rate": 1e-2}))
    models = {"base": policy_of(str(sd)), "r": policy_of(str(store.run("r")))}
    drawn = pixels(evaluate(ASKED, models, tmp_path / "e")[0])
    assert apart(drawn["base", 0, 0], drawn["r", 0, 0]) > 2


def test_an_interrupted_evaluation_goes_on_to_the_same_end(
    sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"a": policy_of(str(sd))}
    whole = evaluate(ASKED, models, tmp_path / "whole", batch=2)

    class Stop:
        def line(self, text: str) -> None: ...

        def update(self, task: str, done: int, total: int | None = None, note: str = "") -> None:  # noqa: ARG002
            assert (task, total) == ("a", 6)
            if done == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(ASKED, models, tmp_path / "parts", batch=2, progress=Stop())
    counted: list[int] = []
    real = module.draw

    def counting(pipeline: object, samples: Sequence[Sample], *rest: object) -> object:
        counted.append(len(samples))
        return real(pipeline, samples, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "draw", counting)
    for _ in range(2):
        again = evaluate(ASKED, models, tmp_path / "parts", batch=2)
        assert counted == [2]  # the rest once, then nothing
        for before, after in zip(whole, again, strict=True):
            assert sorted(map(str, before.to_pylist())) == sorted(map(str, after.to_pylist()))


def test_a_model_can_join_later_and_leave(sd: Path, tmp_path: Path) -> None:
    one, other = policy_of(str(sd)), policy_of(str(tiny_sd(tmp_path / "other", seed=1)))
    evaluate(ASKED, {"a": one}, tmp_path / "e")
    samples, scores = evaluate(ASKED, {"a": one, "b": other}, tmp_path / "e")
    assert set(samples["model"].to_pylist()) == set(scores["model"].to_pylist()) == {"a", "b"}
    samples, scores = evaluate(ASKED, {"b": other}, tmp_path / "e")
    assert set(samples["model"].to_pylist()) == set(scores["model"].to_pylist()) == {"b"}


def test_another_setting_or_other_weights_under_the_name_are_refused(
    sd: Path, tmp_path: Path
) -> None:
    out, models = tmp_path / "e", {"a": policy_of(str(sd))}
    evaluate(ASKED, models, out)
    other = Evaluation(ASKED.prompts, ASKED.seeds, Sampling("euler", 2, 3.0))
    with pytest.raises(InputError, match="other sampling; name another --out"):
        evaluate(other, models, out)
    changed = {"a": policy_of(str(tiny_sd(tmp_path / "other", seed=1)))}
    with pytest.raises(InputError, match="other model a"):
        evaluate(ASKED, changed, out)
    assert list(json.loads((out / "evaluation.json").read_text())["models"]) == ["a"]


def test_a_model_is_another_when_any_file_that_draws_with_it_changed(tmp_path: Path) -> None:
    """The noise schedule, and weights that are no safetensors, count as the UNet's do."""
    base, out = tiny_sd(tmp_path / "sd"), tmp_path / "e"
    evaluate(ASKED, {"a": policy_of(str(base))}, out)
    file = base / "scheduler" / "scheduler_config.json"
    schedule = file.read_text()
    file.write_text(schedule.replace("epsilon", "v_prediction"))
    assert file.read_text() != schedule
    with pytest.raises(InputError, match="other model a"):
        evaluate(ASKED, {"a": policy_of(str(base))}, out)
    file.write_text(schedule)
    about = json.loads((out / "evaluation.json").read_text())
    about["models"]["a"] = about["models"]["a"]["weights"]  # as older versions wrote it
    (out / "evaluation.json").write_text(json.dumps(about))
    evaluate(ASKED, {"a": policy_of(str(base))}, out)
    (base / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"other weights")
    with pytest.raises(InputError, match="other model a"):
        evaluate(ASKED, {"a": policy_of(str(base))}, out)


def test_models_drawn_in_different_precisions_are_not_compared(sd: Path, tmp_path: Path) -> None:
    out, models = tmp_path / "e", {"a": policy_of(str(sd))}
    evaluate(ASKED, models, out)
    file = out / "evaluation.json"
    about = json.loads(file.read_text())
    assert about.pop("precision") == "fp32"
    both = {**models, "b": policy_of(str(tiny_sd(tmp_path / "other", seed=1)))}
    with pytest.raises(InputError, match="other precision; name another --out"):
        evaluate(ASKED, both, out, dtype=torch.bfloat16)
    file.write_text(json.dumps(about))  # as older versions wrote it
    with pytest.raises(InputError, match="other precision"):
        evaluate(ASKED, both, out, dtype=torch.bfloat16)
    samples, _ = evaluate(ASKED, both, out)
    assert set(samples["model"].to_pylist()) == {"a", "b"}
    assert json.loads(file.read_text())["precision"] == "fp32"
    halves, _ = evaluate(ASKED, models, tmp_path / "halves", dtype=torch.bfloat16)
    assert json.loads((tmp_path / "halves" / "evaluation.json").read_text())["precision"] == "bf16"
    one, other = pixels(samples), pixels(halves)
    assert max(apart(one[key], other[key]) for key in other) > 0  # it would have mattered


def test_another_scorer_reads_the_same_images(
    sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brightness(prompts: Sequence[str], images: Sequence[Image.Image]) -> dict[str, list[float]]:
        assert len(prompts) == len(images)
        return {"brightness": [float(np.asarray(image).mean()) for image in images]}

    monkeypatch.setitem(SCORERS, "brightness", brightness)
    models = {"a": policy_of(str(sd))}
    samples, first = evaluate(ASKED, models, tmp_path / "e")
    parts = len(list((tmp_path / "e" / "samples").iterdir()))
    _, second = evaluate(ASKED, models, tmp_path / "e", scorer="brightness")
    assert len(list((tmp_path / "e" / "samples").iterdir())) == parts
    assert set(first["figure"].to_pylist()) == {"reward", "alignment", "presence", "accuracy"}
    drawn = pixels(samples)
    for row in second.to_pylist():
        expected = drawn["a", row["prompt_index"], row["seed"]].mean()
        assert row["value"] == pytest.approx(expected)


def test_what_is_no_model_is_named(tmp_path: Path, sd: Path) -> None:
    with pytest.raises(TrainingError, match="is no model"):
        policy_of(str(tmp_path))
    run = tmp_path / "run"
    run.mkdir()
    text = f"backbone: {{path: {sd}}}\nobjective: {{name: sft}}\nsteps: 1\n"
    (run / "recipe.yaml").write_text(text)
    with pytest.raises(TrainingError, match="has no checkpoint yet"):
        policy_of(str(run))
    (run / "checkpoints" / "step-000001").mkdir(parents=True)
    with pytest.raises(TrainingError, match="no whole checkpoint"):
        policy_of(str(run))


def test_the_noise_of_a_prompt_stays_what_it_is() -> None:
    """printf 'sample\\x1f0\\x1fa square' | b2sum -l 56, in decimal: old samples compare."""
    assert noise_of("a square", 0).initial_seed() == 32597671585797204
