"""Reading weights and comparing their keys, here and in the environments of other packages.

Imports nothing of this project: a worker finds it beside itself. Faults are ValueErrors whose text
is one sentence.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NO_WEIGHTS = ("position_ids", "input_resolution", "context_length", "vocab_size")


def read_state(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint by key: safetensors, torch.save, or OpenAI's TorchScript.

    ValueError where the file is cut off or holds no tensors.
    """
    import torch

    try:
        state = _opened(path)
    except Exception as problem:  # a broken archive raises nearly anything
        raise ValueError(
            f"{path} cannot be read as weights ({one_line(problem)}); it may be cut off: fetch it "
            "again."
        ) from problem
    for inner in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(inner), Mapping):
            state = state[inner]
    if not isinstance(state, Mapping) or not all(torch.is_tensor(v) for v in state.values()):
        raise ValueError(f"{path} holds no table of tensors; name the published weights' file.")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _opened(path: Path) -> Any:
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # TorchScript archives, and files from before torch 1.6
        try:
            return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
        except RuntimeError:
            return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def unfilled() -> Iterator[None]:
    """Models made herein draw no random weights, which for a billion of them takes a minute.

    For those that `load_into` fills whole: their numbers are whatever the memory held.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    drawing = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_}

    class Undrawn(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func in drawing or getattr(func, "__module__", "") == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    with Undrawn():
        yield


def load_into(
    model: Any, state: Mapping[str, Any], path: Path, what: str, *, further: bool = False
) -> None:
    """Give `model` its weights; `further` keys are passed over, or else they are a fault.

    ValueError naming the keys where they are another model's.
    """
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    stored = {
        key: tuple(value.shape)
        for key, value in state.items()
        if key in wanted or not (further or key.rpartition(".")[2] in _NO_WEIGHTS)
    }
    absent = {key for key in wanted if key not in stored and key.endswith("position_ids")}
    wanted = {key: shape for key, shape in wanted.items() if key not in absent}
    if problems := differences(wanted, stored):
        raise ValueError(
            f"{path} does not hold the weights of {what}: {problems}. Name the file that `outvoted "
            "scorers` asks for."
        )
    model.load_state_dict({key: state[key] for key in wanted}, strict=not absent)


def differences(
    wanted: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]]
) -> str | None:
    """The keys that one side lacks and those whose shapes differ, in words; None where alike."""
    shapes = [
        f"{key} is {stored[key]} and not {wanted[key]}"
        for key in sorted(wanted.keys() & stored.keys())
        if wanted[key] != stored[key]
    ]
    problems = [
        f"{len(keys)} {word} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for keys, word in (
            (sorted(wanted.keys() - stored.keys()), "keys are missing"),
            (sorted(stored.keys() - wanted.keys()), "are none of its keys"),
            (shapes, "have another shape"),
        )
        if keys
    ]
    return "; ".join(problems) or None


def one_line(problem: BaseException) -> str:
    """The first sentence of an error, short enough to stand in another."""
    lines = str(problem).strip().splitlines()
    return (lines[0].split(". ")[0] if lines else type(problem).__name__)[:200]
