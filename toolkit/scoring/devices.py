"""Devices and number formats of scorers that run in this environment."""

from contextlib import AbstractContextManager, nullcontext

from toolkit.errors import InputError
from toolkit.scoring.scorer import Setup

DTYPES = ("auto", "fp32", "fp16", "bf16")


def device_of(name: str) -> str:
    """cpu, or cuda where there is one; `auto` takes the best. InputError for what is not here."""
    import torch

    has = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda") or (name.startswith("cuda") and not has):
        here = "cpu or cuda" if has else "cpu"
        raise InputError(f"There is no device {name!r} on this machine; choose {here}, or auto.")
    return name


def autocast(setup: Setup) -> AbstractContextManager[object]:
    """The number format of a model: float32, unless a half format was asked for."""
    import torch

    if setup.dtype in ("auto", "fp32"):
        return nullcontext()
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}[setup.dtype]
    return torch.autocast(setup.device.partition(":")[0], dtype=half)


def forward() -> AbstractContextManager[object]:
    """No gradients."""
    import torch

    return torch.inference_mode()


def dtype_name(setup: Setup) -> str:
    """As a scores table says it."""
    return {"fp16": "autocast float16", "bf16": "autocast bfloat16"}.get(setup.dtype, "float32")
