import re
from pathlib import Path

import pytest
import yaml

from toolkit.errors import RecipeError
from toolkit.minority import PRESETS
from training.recipe import MetricSection, load_recipe, parse_recipe

MINIMAL = {
    "backbone": {"path": "miniature:sd"},
    "objective": {"name": "diffusion_dpo", "beta": 300},
    "steps": 10,
}
RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*.yaml"))


def test_every_problem_is_listed_at_once() -> None:
    raw = {
        **MINIMAL,
        "stepps": 5,
        "batch_size": "many",
        "backbone": {"path": "x", "trian": "lora"},
        "objective": {"name": "diffusion_dpo", "beta": -1, "k1": 3},
        "footprints": [1.5],
    }
    with pytest.raises(RecipeError) as caught:
        parse_recipe(raw, "mine.yaml")
    text = str(caught.value)
    assert text.startswith("mine.yaml has 6 problems:")
    for place in (
        "stepps: unknown key",
        "batch_size:",
        "backbone.trian: unknown key",
        "objective.beta:",
        "objective.k1: unknown key",
        "footprints.0.decay:",
    ):
        assert f"\n  {place}" in text
    assert "Allowed: path, train, lora, adapter, resolution, time_ids." in text


def test_an_unknown_objective_is_named_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"diffusion_dpo.*adaptive_dpo"):
        parse_recipe({**MINIMAL, "objective": {"name": "dpo", "beta": 1}})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "contains nothing"),
        ("- a\n- b", "contains a list"),
        ("a: [1", "is not YAML"),
        ("run: 2026-02-30", "is not YAML .*day is out of range"),
        ("run: !!int many", "is not YAML"),
        ("run: !!python/name:os.system", "is not YAML"),
        ("run: " + "[" * 2000, "is not YAML .*nested too deeply"),
        ("steps: " + "9" * 5000, "is not YAML .*4300 digits"),
        (
            "steps: 0x" + "f" * 5000,
            "steps: .*than or equal to 1000000000, found a number with",
        ),
        ("1: 2", "a recipe is a mapping of keys"),
    ],
)
def test_a_file_that_is_no_recipe_gets_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=says):
        load_recipe(file)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"absent\.yaml cannot be read"):
        load_recipe(tmp_path / "absent.yaml")


def test_the_resolved_recipe_reads_back_equal(tmp_path: Path) -> None:
    recipe = parse_recipe(MINIMAL)
    file = tmp_path / "resolved.yaml"
    file.write_text(recipe.to_yaml())
    assert load_recipe(file) == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid_and_has_a_header(path: Path) -> None:
    load_recipe(path)
    header = path.read_text().split("\nseed:")[0]
    for word in ("command:", "hardware:", "time:", "figure:"):
        assert word in header.lower()


@pytest.mark.parametrize(
    "path", [p for p in RECIPES if p.stem.startswith("sd")], ids=lambda path: path.stem
)
def test_recipes_in_the_papers_setting_hold_its_numbers(path: Path) -> None:
    """Batch 128, 12,000 steps, rho 15, beta 1000 and k1 10 for SD1.5, 2500 and 1 for SDXL."""
    recipe = load_recipe(path)
    xl = path.stem.startswith("sdxl")
    header = " ".join(path.read_text().split("\nseed:")[0].replace("#", " ").split())
    processes = int((re.findall(r"accelerate launch .*--num_processes=(\d+)", header) or [1])[0])
    assert recipe.batch_size * recipe.accumulation * processes == 128
    assert recipe.network.shard == (processes > 1)
    assert recipe.steps == 12_000
    assert getattr(recipe.objective, "beta", None) in (None, 2500 if xl else 1000)
    assert getattr(recipe.objective, "k1", 1 if xl else 10) == (1 if xl else 10)
    if recipe.metric.preset == "released":
        assert recipe.metric.resolve().rho == 15
    assert f"recipes/{path.name} --store" in header
    assert "figures for this setting are the paper's and were not rerun here" in header


def test_a_metric_section_changes_only_what_it_names() -> None:
    metric = MetricSection(preset="history", window=7).resolve()
    assert metric.window == 7
    assert metric.rho == PRESETS["history"].rho
    assert MetricSection(preset="released").resolve() == PRESETS["released"]


def test_the_preset_paper_takes_the_papers_c2_where_the_recipe_names_none() -> None:
    def c2(preset: str, **named: object) -> object:
        objective = {"name": "adaptive_dpo", "beta": 1000, **named}
        recipe = parse_recipe({**MINIMAL, "objective": objective, "metric": {"preset": preset}})
        assert parse_recipe(yaml.safe_load(recipe.to_yaml())) == recipe
        return recipe.objective.c2  # type: ignore[union-attr]

    assert c2("paper") == "mean_logit"
    assert c2("paper", c2="mean_ell") == "mean_ell"
    assert c2("released") == c2("history") == "mean_ell"


def test_stored_weights_may_be_named_as_they_lie_in_the_store() -> None:
    base = {"backbone": {"path": "p"}, "objective": {"name": "sft"}, "steps": 1}
    named = parse_recipe({**base, "weights": "findings/first/minority"}).weights
    assert (
        named == parse_recipe({**base, "weights": {"run": "first", "finding": "minority"}}).weights
    )
    assert parse_recipe(base).weights is None
    with pytest.raises(RecipeError, match=r"weights: .*write findings/RUN/FINDING, or a mapping"):
        parse_recipe({**base, "weights": "findings/minority"})


def test_a_footprint_is_a_decay_or_a_mapping_and_none_is_there_twice() -> None:
    given = [0.9, {"decay": 0.5, "ramp": 1}]
    slow, fast = parse_recipe({**MINIMAL, "footprints": given}).footprints
    assert (slow.decay, slow.ramp, fast.decay, fast.ramp) == (0.9, 10, 0.5, 1)
    with pytest.raises(RecipeError, match=r"footprints.0.ramp: .*greater than or equal to 1"):
        parse_recipe({**MINIMAL, "footprints": [{"decay": 0.5, "ramp": 0}]})
    with pytest.raises(RecipeError, match=r"footprints: ema_0.9 is there more than once; leave"):
        parse_recipe({**MINIMAL, "footprints": [0.9, {"decay": 0.9}]})


def test_held_out_pairs_are_not_those_that_are_trained_on() -> None:
    with pytest.raises(RecipeError, match=r"held_out.split: 'train' is the split that is trained"):
        parse_recipe({**MINIMAL, "held_out": {"split": "train"}})
    assert parse_recipe({**MINIMAL, "held_out": {"split": "test"}}).held_out is not None


@pytest.mark.parametrize("seed", [-1, 2**32, 1099511627776])
def test_a_seed_that_numpy_cannot_take_is_refused(seed: int) -> None:
    with pytest.raises(RecipeError, match=rf"  seed: input should be .*, found {seed}\."):
        parse_recipe({**MINIMAL, "seed": seed})
    assert parse_recipe({**MINIMAL, "seed": 2**32 - 1}).seed == 2**32 - 1


@pytest.mark.parametrize("side", [1, 7, 20, 30, 0, -8])
def test_a_resolution_that_pipelines_do_not_draw_is_refused(side: int) -> None:
    with pytest.raises(RecipeError, match=rf"backbone\.resolution: .*, found {side}\."):
        parse_recipe({**MINIMAL, "backbone": {"path": "x", "resolution": side}})
    assert parse_recipe({**MINIMAL, "backbone": {"path": "x", "resolution": 24}})


def test_betas_that_adafactor_would_not_look_at_are_refused(tmp_path: Path) -> None:
    wanted = {"name": "adafactor", "beta1": 0.5, "beta2": 0.9}
    with pytest.raises(RecipeError) as caught:
        parse_recipe({**MINIMAL, "optimiser": wanted})
    lines = str(caught.value).split("\n")
    assert lines[0] == "The recipe has 2 problems:"
    for line, key, found in zip(lines[1:], ("beta1", "beta2"), ("0.5", "0.9"), strict=True):
        assert line.startswith(f"  optimiser.{key}: adafactor has no betas, and it is {found};")
    assert parse_recipe({**MINIMAL, "optimiser": {**wanted, "name": "adamw"}})
    file = tmp_path / "resolved.yaml"  # every default written out, beta1 and beta2 with them
    file.write_text(parse_recipe({**MINIMAL, "optimiser": {"name": "adafactor"}}).to_yaml())
    assert "beta1: 0.9" in file.read_text()
    assert load_recipe(file).optimiser.name == "adafactor"


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("metric.rho", float("inf")),
        ("samples.guidance", float("inf")),
        ("optimiser.learning_rate", float("nan")),
        ("objective.beta", float("inf")),
        ("batch_size", 10**12),
        ("steps", 10**400),
        ("backbone.lora.rank", 4_000_000),
        ("caches.memory_gb", 1e300),
        ("footprints.0.ramp", float("inf")),
    ],
)
def test_every_number_has_a_finite_range(where: str, value: float) -> None:
    raw: dict = {**MINIMAL, "samples": {"prompts": ["a"]}, "footprints": [{"decay": 0.5}]}
    raw = yaml.safe_load(yaml.safe_dump(raw))
    *path, last = where.split(".")
    inner = raw
    for part in path:
        inner = inner[int(part)] if part.isdigit() else inner.setdefault(part, {})
    inner[last] = value
    with pytest.raises(RecipeError, match=rf"{re.escape(where)}: input should be .*, found "):
        parse_recipe(raw)
