"""LoRA adapters read from disk: the start of a run, or the policy of a checkpoint."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from toolkit.errors import TrainingError
from training import recipe as sections

WEIGHTS = "pytorch_lora_weights.safetensors"

_OTHER_KINDS = ("use_rslora", "use_dora", "alpha_pattern", "rank_pattern")
"""Settings in a file's metadata that change what its tensors mean."""


def adapter_file(path: str | Path) -> Path:
    """The weights behind a folder or a file. TrainingError where there are none."""
    given = Path(path)
    file = given / WEIGHTS if given.is_dir() else given
    if file.suffix != ".safetensors" or not file.is_file():
        raise TrainingError(
            f"There is no adapter at {given}; name a folder with {WEIGHTS} (a checkpoint of a LoRA "
            "run is one) or a .safetensors file."
        )
    return file


def add_lora(unet: Any, lora: sections.Lora) -> None:
    """Fresh adapters on the UNet's layers: B = 0, so nothing changes until they are trained.

    TrainingError where `lora.targets` names none, or what is no layer of this network.
    """
    from peft import LoraConfig

    _check_targets(unet, lora.targets)
    unet.add_adapter(
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.targets),
            init_lora_weights="gaussian",
        )
    )
    # Fresh adapters come in training mode inside a network that is not.
    unet.train(lora.dropout > 0)


def is_fresh(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these trainable tensors are adapters that change nothing: every B is 0."""
    ups = [tensor for name, tensor in tensors.items() if ".lora_B." in name]
    return 2 * len(ups) == len(tensors) > 0 and not any(bool(tensor.any()) for tensor in ups)


@contextlib.contextmanager
def without_adapters(unet: Any) -> Iterator[None]:
    """The base network: its adapters are off, and cost nothing."""
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def _check_targets(unet: Any, targets: tuple[str, ...]) -> None:
    """Each target must be a layer's name or the end of one: peft ignores one that fits no layer
    beside others that do."""
    layers = {n for n, part in unet.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    others = {n for n, _ in unet.named_modules()} - layers

    def fits(target: str, names: set[str]) -> bool:
        return any(f".{name}".endswith(f".{target}") for name in names)

    odd = [t for t in targets if not t or not fits(t, layers) or fits(t, others)]
    if targets and not odd:
        return
    attention = sorted(name for name in layers if "attentions." in name) or sorted(layers)
    ends = dict.fromkeys(re.sub(r".*\.(?=[^.\d]+(\.\d+)?$)", "", name) for name in attention)
    problem = f"names {', '.join(map(repr, odd))}" if odd else "is empty"
    raise TrainingError(
        f"lora.targets {problem}; every target must be the name, or the end of the name, of linear "
        f"or convolutional layers of this network, such as {', '.join(list(ends)[:6])}."
    )


def load_lora(unet: Any, path: str | Path, lora: sections.Lora) -> None:
    """Adapters on the UNet's layers with the tensors of a file, and nothing of them left over.

    TrainingError where the file's rank, alpha or layers are not those of `lora`, or its adapters
    of another kind. A file that states no alpha has that of `lora`.
    """
    from peft import set_peft_model_state_dict

    file = adapter_file(path)
    state, alphas = _read(file)
    _check(file, state, alphas, lora)
    add_lora(unet, lora)
    wanted = {name for name, _ in unet.named_parameters() if ".lora_" in name}
    saved = {_as_named(key) for key in state}
    if wanted != saved:
        example = next(iter(sorted(wanted ^ saved)))
        raise TrainingError(
            f"The adapter {file} covers {len(saved) // 2} layers and lora.targets "
            f"{len(wanted) // 2} (one that differs: {example.partition('.lora_')[0]}); set "
            "lora.targets to those it was trained with."
        )
    set_peft_model_state_dict(unet, state)


def fuse_lora(unet: Any, path: str | Path, lora: sections.Lora) -> None:
    """Add a file's adapters to the weights themselves, as full fine-tuning from them needs."""
    load_lora(unet, path, lora)
    unet.fuse_lora()
    unet.unload_lora()


def _read(file: Path) -> tuple[dict[str, Tensor], set[float]]:
    """Tensors in peft's names, and the alphas that the file states (none in many files)."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_unet_state_dict_to_peft

    try:
        every, network_alphas, metadata = StableDiffusionPipeline.lora_state_dict(
            file.parent, weight_name=file.name, return_lora_metadata=True, local_files_only=True
        )
    except Exception as problem:  # safetensors and diffusers raise many kinds on a broken file
        raise TrainingError(
            f"The adapter {file} cannot be read ({' '.join(str(problem).split())}); restore it or "
            "name another."
        ) from problem
    state = {k.removeprefix("unet."): v for k, v in every.items() if k.startswith("unet.")}
    if len(state) < len(every) or not state:
        raise TrainingError(
            f"{file} holds {len(every) - len(state)} tensors that belong to no UNet; this version "
            "trains the UNet alone: name an adapter of the UNet only."
        )
    if not any("lora_A" in key for key in state):
        state = convert_unet_state_dict_to_peft(state)
    if odd := [key for key in _OTHER_KINDS if (metadata or {}).get(f"unet.{key}")]:
        raise TrainingError(
            f"The adapter {file} was made with {' and '.join(odd)}, under which the same tensors "
            "are another network than plain LoRA's, and this version has plain LoRA alone; name "
            "another adapter, or train on a backbone into which this one was fused."
        )
    alphas = {float(value) for value in (network_alphas or {}).values()}
    if metadata and "unet.lora_alpha" in metadata:
        alphas.add(float(metadata["unet.lora_alpha"]))
    return state, alphas


def _check(file: Path, state: dict[str, Tensor], alphas: set[float], lora: sections.Lora) -> None:
    ranks = sorted({value.shape[0] for key, value in state.items() if "lora_A" in key})
    if ranks != [lora.rank]:
        saved = " and ".join(map(str, ranks))
        raise TrainingError(
            f"The adapter {file} has rank {saved} and the recipe lora.rank {lora.rank}; "
            + (f"set lora.rank to {saved}." if len(ranks) == 1 else "name one of a single rank.")
        )
    if alphas - {lora.alpha}:
        saved = " and ".join(f"{alpha:g}" for alpha in sorted(alphas))
        raise TrainingError(
            f"The adapter {file} was trained with alpha {saved} and the recipe has lora.alpha "
            f"{lora.alpha:g}; set lora.alpha to the adapter's."
        )


def _as_named(key: str) -> str:
    """A key of a saved adapter as the parameter's name in the UNet."""
    head, _, tail = key.rpartition(".weight")
    return f"{head}.default.weight" if not tail else key
