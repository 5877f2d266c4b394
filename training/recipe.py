"""Recipes: one YAML file a run, typed, with every problem reported at once."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
)

from toolkit.errors import RecipeError
from training.conflicts import conflicts
from training.footprints import footprint_name
from training.objectives import AnyObjective
from training.sections import (
    Backbone,
    Caches,
    Draws,
    FootprintSection,
    HeldOut,
    Live,
    MetricSection,
    Network,
    Optimiser,
    Probe,
    Samples,
    Section,
    Share,
    StoredWeights,
    by_decay,
    by_path,
)


class Recipe(Section):
    """One run."""

    store: str | None = None
    run: str | None = None
    labels: str = "original"
    split: str = "train"
    verdicts: bool = True
    """Honour published verdicts: those there at the start, and later ones as `live` says."""
    live: Live = Live()
    weights: Annotated[StoredWeights | None, BeforeValidator(by_path)] = None
    """A mapping, or `findings/RUN/FINDING` as they lie in the store."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of all randomness; numpy's own generator takes no larger one."""
    backbone: Backbone
    objective: AnyObjective
    metric: MetricSection = MetricSection()
    footprints: tuple[Annotated[FootprintSection, BeforeValidator(by_decay)], ...] = (
        FootprintSection(decay=0.9999),
        FootprintSection(decay=0.5),
    )
    """Decays, or mappings of `decay` and `ramp`; each costs a forward pass a visit."""
    draws: Draws = Draws()
    optimiser: Optimiser = Optimiser()
    network: Network = Network()
    steps: PositiveInt
    batch_size: PositiveInt = 16
    """Pairs per process and forward pass."""
    accumulation: PositiveInt = 1
    caption_dropout: Share = 0.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    caches: Caches = Caches()
    probe: Probe | None = None
    held_out: HeldOut | None = None
    samples: Samples | None = None
    tensorboard: bool = False
    wandb: str | None = None
    """The project on Weights & Biases that the figures go to, where wandb is installed."""
    log_every: PositiveInt = 10
    checkpoint_every: PositiveInt = 500

    @field_validator("footprints")
    @classmethod
    def _differ(cls, given: tuple[FootprintSection, ...]) -> tuple[FootprintSection, ...]:
        names = [footprint_name(one.decay, one.ramp) for one in given]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is there more than once; leave the others out")
        return given

    def to_yaml(self) -> str:
        """The resolved recipe, every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_recipe(path: str | Path, **overrides: Any) -> Recipe:
    """Read a recipe; `overrides` that are not None replace its top-level keys.

    RecipeError lists every unknown key and wrong value at once.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise RecipeError(
            f"The recipe {file} cannot be read ({_why(problem)}); name a YAML file, or copy one "
            f"from {Path(__file__).parent / 'recipes'}."
        ) from problem
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        detail = " ".join(str(problem).split())
        raise RecipeError(f"{file} is not YAML ({detail}); mend that line.") from problem
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else f"a {type(raw).__name__}"
        raise RecipeError(f"{file} holds {found}; a recipe is a mapping of keys to values.")
    raw.update({key: value for key, value in overrides.items() if value is not None})
    return parse_recipe(raw, str(file))


def parse_recipe(raw: dict[str, Any], name: str = "The recipe") -> Recipe:
    """A recipe from a mapping. RecipeError lists every problem at once."""
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as problem:
        raise _problems(name, [_line(error) for error in problem.errors()]) from problem
    if found := conflicts(recipe):
        raise _problems(name, found)
    return _by_preset(recipe)


def _by_preset(recipe: Recipe) -> Recipe:
    """What a preset decides beside the metric, where the recipe does not: the paper's margin has
    the mean of the batch's logits in it (c2 of Eq. 16)."""
    objective = recipe.objective
    told = "c2" in objective.model_fields_set
    if recipe.metric.preset != "paper" or objective.name != "adaptive_dpo" or told:
        return recipe
    return recipe.model_copy(
        update={"objective": objective.model_copy(update={"c2": "mean_logit"})}
    )


def _problems(name: str, lines: list[str]) -> RecipeError:
    count = f"{len(lines)} problem{'s' * (len(lines) > 1)}"
    return RecipeError(f"{name} has {count}:\n  " + "\n  ".join(lines))


def _line(error: Any) -> str:
    place = [str(part) for part in error["loc"]]
    if len(place) > 1 and place[0] == "objective":  # the union's tag is no key of the recipe
        place = [place[0], *place[2:]] if place[1] == _tag(error) else place
    where = ".".join(place)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key; remove it. {_allowed(place[:-1])}"
    if error["type"] == "missing":
        return f"{where}: missing; add it."
    if error["type"] == "value_error":  # a sentence of ours
        return f"{where}: {error['ctx']['error']}, found {error['input']!r}."
    return f"{where}: {error['msg'].lower()}, found {error['input']!r}."


def _tag(error: Any) -> str:
    return str(error["loc"][1])


def _allowed(place: list[str]) -> str:
    model: Any = Recipe
    for part in place:
        model = getattr(model.model_fields.get(part), "annotation", None)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return ""
    return f"Allowed: {', '.join(model.model_fields)}."


def _why(problem: Exception) -> str:
    return getattr(problem, "strerror", None) or "it is not UTF-8 text"
