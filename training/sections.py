"""The parts of a recipe, each with its defaults; what a key means is said here."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from toolkit.minority import PRESETS, Metric, Preset
from training.footprints import USUAL_RAMP

Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(Section):
    """Low-rank adapters (peft), used where `train: lora`."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 16
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    dropout: Share = 0.0


class FootprintSection(Section):
    """An exponential moving average of the policy; a bare number stands for its decay."""

    decay: Share
    ramp: Annotated[float, Field(ge=1)] = USUAL_RAMP
    """The decay of update n is min(decay, (1 + n) / (ramp + n)); 1: `decay` from the first on."""


def by_decay(given: Any) -> Any:
    """A bare decay as the mapping it stands for; anything else as it is."""
    return {"decay": given} if isinstance(given, int | float | str) else given


class Backbone(Section):
    """The model that is aligned: a local diffusers folder, `miniature:sd`, `miniature:sdxl`,
    or `hub:OWNER/NAME` where the machine has a network."""

    path: str
    train: Literal["lora", "full"] = "lora"
    lora: Lora = Lora()
    adapter: str | None = None
    """An adapter to start from: a checkpoint's folder or a .safetensors file, of `lora`'s shape.
    The reference is this start, not the bare backbone."""
    resolution: Annotated[PositiveInt, Field(multiple_of=8)] = 512
    """Side in pixels, of the multiples that pipelines draw: images are resized by their shorter
    side and cropped in the centre."""


class MetricSection(Section):
    """Confidence, stability and minority: a preset, and what is changed in it."""

    preset: Preset = "history"
    rho: PositiveFloat | None = None
    ell_scale: PositiveFloat | None = None
    warmup_steps: NonNegativeInt | None = None
    timestep_bins: PositiveInt | None = None
    rms_decay: Share | None = None
    rms_min_count: PositiveFloat | None = None
    window: Annotated[int, Field(ge=2)] | None = None

    def resolve(self) -> Metric:
        """The preset's record with these changes."""
        changes = {k: v for k, v in self.model_dump().items() if v is not None and k != "preset"}
        return Metric(**{**PRESETS[self.preset].__dict__, **changes})


class Draws(Section):
    """Randomness of a visit: `fresh` each time, or one of `count` draws that come round again."""

    kind: Literal["fresh", "fixed"] = "fresh"
    count: PositiveInt = 8


class Caches(Section):
    """Where encoded images and prompts are kept between visits."""

    memory_gb: NonNegativeFloat = 4.0
    """Host memory for them; past it they are encoded at each visit."""
    disk: bool = False
    """In the store's `caches/`, of any size and for every later run, instead of in memory."""


class Live(Section):
    """How verdicts act that are published while the run goes on."""

    every: PositiveInt = 50
    """Steps between two looks."""
    keep: Literal["computed", "one"] = "computed"
    """The weight of a pair whose label a curator confirmed: as computed, or W = 1."""


class StoredWeights(Section):
    """Per-pair weights of an earlier run's findings."""

    run: str
    finding: str
    column: str = "weight"
    mode: Literal["times", "instead"] = "instead"
    """Multiplied with the live W, or instead of it (W = 1)."""


def by_path(given: Any) -> Any:
    """findings/RUN/FINDING as the mapping it stands for; anything else as it is."""
    if not isinstance(given, str):
        return given
    place = given.removesuffix(".parquet").split("/")
    if len(place) != 3 or place[0] != "findings" or not all(place):
        raise ValueError("write findings/RUN/FINDING, or a mapping with run and finding")
    return {"run": place[1], "finding": place[2]}


class Probe(Section):
    """Pairs that are measured under fixed draws, without gradient, as the run goes on."""

    every: PositiveInt = 100
    pairs: PositiveInt = 256
    draws: PositiveInt = 4
    seed: int = 0
    """Of the draws and the choice of pairs; the same in runs that are to be compared."""


class HeldOut(Section):
    """Pairs of another split, never trained on: the accuracy of their ell under fixed draws."""

    split: str = "validation"
    every: PositiveInt = 200
    pairs: PositiveInt | None = None
    """Null: all of them."""
    draws: PositiveInt = 8
    labels: str = "original"
    seed: int = 0


class Samples(Section):
    """Images drawn from fixed prompts and seeds as the run goes on."""

    prompts: Annotated[tuple[str, ...], Field(min_length=1)]
    every: PositiveInt = 500
    seed: int = 0
    steps: PositiveInt = 25
    guidance: NonNegativeFloat = 7.5


class Optimiser(Section):
    """`adamw`; `adamw_8bit` where bitsandbytes is installed; `adafactor`, which has no betas and
    whose rate is relative to the size of each tensor."""

    name: Literal["adamw", "adamw_8bit", "adafactor"] = "adamw"
    learning_rate: PositiveFloat = 1e-5
    warmup_steps: NonNegativeInt = 0
    weight_decay: NonNegativeFloat = 0.01
    beta1: Share = 0.9
    beta2: Share = 0.999
    max_grad_norm: PositiveFloat = 1.0
    """A longer gradient is shortened to this norm."""
    grad_norm: PositiveFloat | None = None
    """Every gradient, long or short, is brought to this norm instead: objectives of different
    slopes then compare step by step."""


class Network(Section):
    """Options that change speed and memory and, up to rounding, nothing else."""

    gradient_checkpointing: bool = False
    """Activations are computed again in the backward pass: about a third slower, far smaller."""
    channels_last: bool = False
    compile: bool = False
    """torch.compile of the transformer blocks; needs a C++ compiler, the first step takes long."""
    shard: bool = False
    """Divide network, gradients, optimiser and reference over the processes of `accelerate launch
    --multi_gpu` (FSDP2), where a network that trains as a whole does not fit one device. For
    `train: full` with `footprints: []`; in a single process it changes nothing."""
