"""Scorers of images: one a file, one entry in SCORERS.

To add one (a reward of your own, a judge that is a language model): write a file here with

    def load(setup: Setup) -> Judge:
        model = ...                                  # from setup.weights["model"], setup.device
        def judge(batch: Batch) -> Judged:           # batch.prompts, batch.images, (N,) each
            return Judged(scores, truncated)         # larger is better; whose prompt was cut
        return Judge(Identity(version, sha256_of(setup.weights), "how pixels were prepared",
                              dtype_name(setup)), prepare, one_by_one(judge))

    MINE = Scorer("mine", "what it is", "Mine", load, needs=(WeightFile("model", "its weights"),))

and name MINE in the tuple below. `prepare` gets one RGB image and runs in threads. Torch is
imported inside functions, so that listing scorers costs nothing.

A package that cannot be installed here runs in an environment of its own: write its packages into
environments/NAME.txt (`uv pip compile NAME.in -o NAME.txt`; pyarrow, pillow and numpy must be among
them), which makes `outvoted scorers install NAME` known, and a worker into workers/NAME.py:

    from serving import Model, serve

    def load(setup):                                 # {"weights": {"model": path}, "device": ...}
        model = ...                                  # ValueError with a sentence where it cannot be
        return Model(version, "how pixels were prepared", "float32", prepare, judge)

    serve(load)

with judge(prompts, images) -> (scores, whose prompt was cut). Its entry, which goes into the same
tuple, is

    MINE = Scorer("mine", "what it is", "Mine",
                  partial(load_remote, environment="NAME", worker="NAME"), needs=...,
                  environment="NAME")
"""

from collections.abc import Iterable

from toolkit.errors import InputError
from toolkit.scoring.checkpoints import needed
from toolkit.scoring.clip import AESTHETIC, CLIP
from toolkit.scoring.miniworld_scorers import PROGRAMMATIC
from toolkit.scoring.pickscore import PICKSCORE
from toolkit.scoring.scorer import Batch, Judge, Judged, Scorer, Setup, WeightFile
from toolkit.scoring.worker_client import HPS, HPS_V20, IMAGE_REWARD
from toolkit.store.scores import Identity

__all__ = [
    "SCORERS",
    "Batch",
    "Identity",
    "Judge",
    "Judged",
    "Scorer",
    "Setup",
    "WeightFile",
    "load",
    "named",
]

SCORERS: dict[str, Scorer] = {
    scorer.name: scorer
    for scorer in (IMAGE_REWARD, PICKSCORE, AESTHETIC, HPS, HPS_V20, CLIP, *PROGRAMMATIC)
}
"""Name -> scorer, in the order of the paper's tables (IR, PS, Aes, HPS), then further ones."""


def named(name: str) -> Scorer:
    """The scorer of that name. InputError naming those there are."""
    if name not in SCORERS:
        raise InputError(f"There is no scorer {name!r}; choose {', '.join(SCORERS)}.")
    return SCORERS[name]


def load(
    scorer: Scorer, *, weights: Iterable[str] = (), device: str = "auto", dtype: str = "auto"
) -> Judge:
    """A scorer, ready to judge. `weights`: paths or ROLE=PATH beside those already noted.

    InputError for what is missing, ScoringError where a worker cannot load its model.
    """
    files = needed(scorer, weights)
    if scorer.needs:
        from toolkit.scoring.scorer import DTYPES, device_of

        if dtype not in DTYPES:
            raise InputError(f"There is no number format {dtype!r}; choose {', '.join(DTYPES)}.")
        if scorer.environment and dtype not in ("auto", "fp32"):
            raise InputError(
                f"{scorer.name} runs in its own package's number format; choose auto or fp32."
            )
        device = device_of(device)
    return scorer.load(Setup(files, device, dtype))
