"""Recipes: one YAML file per run, with a type and a meaning for every key.

One class per section of a recipe, with its defaults, and `Recipe` itself. All problems of a recipe
are reported at once: unknown keys, wrong values, and combinations that cannot work (`conflicts`).
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from toolkit.errors import RecipeError
from toolkit.minority import PRESETS, Metric, Preset
from toolkit.store import Store
from training.ema import USUAL_RAMP, footprint_name
from training.objectives import AnyObjective

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Small = Annotated[int, Field(ge=1, le=2**16)]
Steps = Annotated[int, Field(ge=0, le=10**9)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
Amount = Annotated[float, Field(ge=0, le=1e9)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""numpy's own generator takes no larger one."""


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, and every number has a finite range."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Lora(Section):
    """Low-rank adapters (peft), used where `train: lora`."""

    rank: Annotated[int, Field(ge=1, le=4096)] = 16
    """Rank of each pair of matrices."""
    alpha: Positive = 16
    """Their product is scaled by alpha / rank."""
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    """Names of the layers that get adapters; by default those of attention."""
    dropout: Share = 0.0
    """Probability of dropping an input of an adapter while it trains."""


class FootprintSection(Section):
    """An exponential moving average of the policy; a bare number is its decay."""

    decay: Share
    """Share of the average that is left after one update."""
    ramp: Annotated[float, Field(ge=1, le=1e9)] = USUAL_RAMP
    """The decay of update n is min(decay, (1 + n) / (ramp + n)); 1: `decay` from the first on."""


def by_decay(given: Any) -> Any:
    """A bare decay as a mapping; anything else as it is."""
    return {"decay": given} if isinstance(given, int | float | str) else given


class Backbone(Section):
    """The model that is aligned."""

    path: str
    """A local diffusers folder, `miniature:sd`, `miniature:sdxl`, or `hub:OWNER/NAME` where the
    machine has a network."""
    train: Literal["lora", "full"] = "lora"
    """Train low-rank adapters, or all weights of the UNet."""
    lora: Lora = Lora()
    adapter: str | None = None
    """An adapter to start from: a checkpoint's folder or a .safetensors file, of `lora`'s shape.
    The reference is this start, not the bare backbone."""
    resolution: Annotated[int, Field(ge=8, le=8192, multiple_of=8)] = 512
    """Side in pixels, of the multiples that pipelines draw: images are resized by their shorter
    side and cropped in the centre."""
    time_ids: Literal["constant", "pair", "image"] = "constant"
    """The size and crop that SDXL is given: those it draws with, those of image_0 for both, or each
    image's own, which makes size a cue for the label."""


class MetricSection(Section):
    """Confidence, stability and minority: a preset, and changes to it. Null keeps the preset's
    value."""

    preset: Preset = "history"
    """How ell is scaled, and what is compared: `paper`, `released`, `running` or `history`."""
    rho: Positive | None = None
    """Sharpness of confidence: multiplies the scaled ell inside the sigmoid of Eq. 11."""
    ell_scale: Positive | None = None
    """`paper` only: multiplies ell. The number of latent elements gives Eq. 6's summed norm."""
    warmup_steps: Steps | None = None
    """Optimiser steps during which every weight is 1."""
    timestep_bins: Small | None = None
    """`running` and `history`: bins of the noise schedule, each with a scale of its own."""
    rms_decay: Share | None = None
    """`running` and `history`: share of an observation that is left after one step."""
    rms_min_count: Positive | None = None
    """`running` and `history`: observations that a bin needs before its scale counts."""
    window: Annotated[int, Field(ge=2, le=1000)] | None = None
    """`history`: number of visits, the present one included, that take the place of models."""

    def resolve(self) -> Metric:
        """The preset's record with these changes."""
        changes = {k: v for k, v in self.model_dump().items() if v is not None and k != "preset"}
        return Metric(**{**PRESETS[self.preset].__dict__, **changes})


class Draws(Section):
    """The noise samples of a visit."""

    kind: Literal["fresh", "fixed"] = "fresh"
    """New ones at each visit, or `count` draws in turn, whose reference errors are cached."""
    count: Small = 8
    """Number of fixed draws of a pair."""


class Caches(Section):
    """Where encoded images and prompts are kept between visits."""

    memory_gb: Amount = 4.0
    """Host memory for them; past it they are encoded at each visit."""
    disk: bool = False
    """In the store's `caches/`, of any size and for every later run, instead of in memory."""


class Live(Section):
    """How verdicts act that are published during the run."""

    every: Count = 50
    """Steps between two looks."""
    keep: Literal["computed", "one"] = "computed"
    """The weight of a pair whose label a curator confirmed: as computed, or W = 1."""


class StoredWeights(Section):
    """Per-pair weights of an earlier run's findings."""

    run: str
    """The run whose findings contain the weights."""
    finding: str
    """The finding's name."""
    column: str = "weight"
    """Its column with the weights."""
    mode: Literal["times", "instead"] = "instead"
    """Multiplied with the live W, or instead of it (W = 1)."""


def by_path(given: Any) -> Any:
    """findings/RUN/FINDING as the mapping it is short for; anything else as it is."""
    if not isinstance(given, str):
        return given
    place = given.removesuffix(".parquet").split("/")
    if len(place) != 3 or place[0] != "findings" or not all(place):
        raise ValueError("write findings/RUN/FINDING, or a mapping with run and finding")
    return {"run": place[1], "finding": place[2]}


class Probe(Section):
    """Pairs that are measured under fixed draws, without gradient, during the run."""

    every: Count = 100
    """Steps between two probes."""
    pairs: Count = 256
    """Number of pairs, chosen at random."""
    draws: Small = 4
    """Fixed draws of each pair."""
    seed: Seed = 0
    """Of the draws and the choice of pairs; the same in runs that are to be compared."""


class HeldOut(Section):
    """Pairs of another split, never trained on: the accuracy of their ell under fixed draws."""

    split: str = "validation"
    """The split that the pairs are from."""
    every: Count = 200
    """Steps between two measurements."""
    pairs: Count | None = None
    """Null: all of them."""
    draws: Small = 8
    """Fixed draws of each pair."""
    labels: str = "original"
    """The label set that accuracy is measured against."""
    seed: Seed = 0
    """Of the draws and the choice of pairs."""


class Samples(Section):
    """Images generated from fixed prompts and seeds during the run."""

    prompts: Annotated[tuple[str, ...], Field(min_length=1)]
    """One image is generated for each prompt."""
    every: Count = 500
    """Training steps between two sets of images."""
    seed: Seed = 0
    """Of the starting noise."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 25
    """Steps of the sampler."""
    guidance: Amount = 7.5
    """Scale of classifier-free guidance."""


class Optimiser(Section):
    """The optimiser and its schedule."""

    name: Literal["adamw", "adamw_8bit", "adafactor"] = "adamw"
    """`adamw`; `adamw_8bit` where bitsandbytes is installed; `adafactor`, which has no betas and
    whose rate is relative to the size of each tensor."""
    learning_rate: Positive = 1e-5
    """Constant after warm-up."""
    warmup_steps: Steps = 0
    """Steps in which the learning rate rises linearly to its value."""
    weight_decay: Amount = 0.01
    """Decoupled weight decay."""
    beta1: Share = 0.9
    """Decay of the gradient's first moment."""
    beta2: Share = 0.999
    """Decay of the gradient's second moment."""
    max_grad_norm: Positive = 1.0
    """A longer gradient is shortened to this norm."""
    grad_norm: Positive | None = None
    """Every gradient, long or short, is brought to this norm instead: objectives of different
    slopes then compare step by step."""


class Network(Section):
    """Options that change speed and memory and, up to rounding, nothing else."""

    gradient_checkpointing: bool = False
    """Activations are computed again in the backward pass: about a third slower, far smaller."""
    channels_last: bool = False
    """Keep images and weights in channels-last layout, which convolutions on GPUs prefer."""
    compile: bool = False
    """torch.compile of the transformer blocks; needs a C++ compiler, the first step takes long."""
    shard: bool = False
    """Divide network, gradients, optimiser and reference over the processes of `accelerate launch
    --multi_gpu` (FSDP2), where a network that trains as a whole does not fit one device. For
    `train: full` with `footprints: []`; in a single process it changes nothing."""


def conflicts(recipe: "Recipe") -> list[str]:
    """One line each, by the key to change: what it is, what is allowed, what to write instead."""
    name, usual = recipe.optimiser.name, Optimiser()
    lines: dict[str, bool] = {}
    for key in ("beta1", "beta2") if name == "adafactor" else ():
        value = getattr(recipe.optimiser, key)
        line = f"adafactor has no betas, and it is {value:g}; remove it, or write `name: adamw`."
        # A default is no wish: resolved recipes spell it out.
        lines[f"optimiser.{key}: {line}"] = value != getattr(usual, key)
    if recipe.held_out is not None:
        split = recipe.held_out.split
        lines[
            f"held_out.split: {split!r} is the split that is trained on, and held-out pairs never "
            "are; name another one of the store's."
        ] = split == recipe.split
    if recipe.network.shard:
        lines |= {
            "network.shard: requires full fine-tuning, and backbone.train is lora; remove it: "
            "adapters and a frozen network fit each device.": recipe.backbone.train == "lora",
            "footprints: each would be one more network to divide, and network.shard keeps none; "
            "write `footprints: []` and metric.preset history.": bool(recipe.footprints),
            # torch's Adafactor takes norms in place, which its divided tensors refuse.
            f"optimiser.name: {name} cannot be divided by network.shard; write adamw.": name
            != "adamw",
            "precision: fp16 scales its loss in ways that network.shard does not know; write bf16 "
            "or fp32.": recipe.precision == "fp16",
        }
        for key in ("channels_last", "compile"):
            line = f"network.{key}: cannot be combined with network.shard; remove one of them."
            lines[line] = getattr(recipe.network, key)
    return [line for line, wrong in lines.items() if wrong]


class Recipe(Section):
    """One run."""

    store: str | None = None
    """The store's folder; `--store` replaces it."""
    run: str | None = None
    """The run's name in the store; `--run` replaces it."""
    labels: str = "original"
    """The label set that is trained on."""
    split: str | None = "train"
    """The split that is trained on; null: the pairs without one. A store without any splits is
    trained on whole."""
    label_weights: bool = False
    """Multiply each pair's loss by its label_weight (how many votes, how much trust), over the mean
    of the run's pairs. A pair whose label has none counts as the mean."""
    verdicts: bool = True
    """Honour published verdicts: those there at the start, and later ones as `live` says."""
    live: Live = Live()
    weights: Annotated[StoredWeights | None, BeforeValidator(by_path)] = None
    """A mapping, or `findings/RUN/FINDING`, the path in the store."""
    seed: Seed = 0
    """Of all randomness."""
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
    steps: Count
    """Optimiser steps."""
    batch_size: Small = 16
    """Pairs per process and forward pass."""
    accumulation: Small = 1
    """Micro-batches of each process in one optimiser step."""
    caption_dropout: Share = 0.0
    """Probability that a visit uses the empty prompt."""
    empty_prompt: Literal["pipeline", "encoded"] = "pipeline"
    """What that is: as the pipeline has it without guidance (zeros for SDXL), or encoded text."""
    dropped_captions: Literal["leave_out", "count"] = "leave_out"
    """Visits with the empty prompt say nothing about the label. They train with weight 1 and have
    no scores, or count like all others."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of forward and backward passes; weights and optimiser are fp32."""
    caches: Caches = Caches()
    probe: Probe | None = None
    held_out: HeldOut | None = None
    samples: Samples | None = None
    tensorboard: bool = False
    """Write metrics for TensorBoard too, to `metrics/tensorboard`."""
    wandb: str | None = None
    """The project on Weights & Biases that the figures go to, where wandb is installed."""
    log_every: Count = 10
    """Steps between two entries of the metrics."""
    checkpoint_every: Count = 500
    """Steps between two checkpoints; the last step has one too."""

    @field_validator("footprints")
    @classmethod
    def _differ(cls, given: tuple[FootprintSection, ...]) -> tuple[FootprintSection, ...]:
        names = [footprint_name(entry.decay, entry.ramp) for entry in given]
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
    raw = _mapping(Path(path))
    raw.update({key: value for key, value in overrides.items() if value is not None})
    return parse_recipe(raw, str(path))


def _mapping(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        why = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise RecipeError(
            f"The recipe {file} cannot be read ({why}); name a YAML file, or copy one from "
            f"{Path(__file__).parent / 'recipes'}."
        ) from problem
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, TypeError, RecursionError) as problem:
        # yaml makes dates and numbers of what looks like one, with Python's own errors.
        detail = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise RecipeError(
            f"{file} is not YAML ({' '.join(detail.split())}); fix that line."
        ) from problem
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        kind = "nothing" if raw is None else f"a {type(raw).__name__}"
        raise RecipeError(f"{file} contains {kind}; a recipe is a mapping of keys to values.")
    return raw


_BEFORE = {"empty_prompt": "encoded", "dropped_captions": "count"}
"""What versions did that had no such key: a run of theirs is resumed as it began."""


def stored_recipe(store: Store, run: str) -> Recipe:
    """The resolved recipe that a run was started with. RecipeError where it cannot be read."""
    file = store.run(run) / "recipe.yaml"
    raw = {**_BEFORE, **_mapping(file), "store": str(store.root), "run": run}
    raw["backbone"] = {"time_ids": "image", **raw.get("backbone", {})}
    return parse_recipe(raw, str(file))


def parse_recipe(raw: dict[str, Any], name: str = "The recipe") -> Recipe:
    """A recipe from a mapping. RecipeError lists every problem at once."""
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as problem:
        raise _problems(name, [_line(error) for error in problem.errors()]) from problem
    if problems := conflicts(recipe):
        raise _problems(name, problems)
    return _by_preset(recipe)


def _by_preset(recipe: Recipe) -> Recipe:
    """What a preset decides beside the metric, where the recipe does not: the paper's margin has
    the mean of the batch's logits in it (c2 of Eq. 16)."""
    objective = recipe.objective
    c2_is_set = "c2" in objective.model_fields_set
    if recipe.metric.preset != "paper" or objective.name != "adaptive_dpo" or c2_is_set:
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
        place = [place[0], *place[2:]]
    where = ".".join(place)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key; remove it. {_allowed(place[:-1])}"
    if error["type"] == "missing":
        return f"{where}: missing; add it."
    text = error["ctx"]["error"] if error["type"] == "value_error" else error["msg"].lower()
    return f"{where}: {text}, found {_shown(error['input'])}."


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer of more than 4,300 digits
        return "a number with thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _allowed(place: list[str]) -> str:
    model: Any = Recipe
    for part in place:
        model = getattr(model.model_fields.get(part), "annotation", None)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return ""
    return f"Allowed: {', '.join(model.model_fields)}."
