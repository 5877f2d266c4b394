"""Devices and number formats, by the names that recipes and options use."""

from typing import Any

import torch

from toolkit.errors import InputError, TrainingError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(name: str) -> str:
    """cpu or cuda; `auto` is cuda where there is one. InputError where the device is missing."""
    cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if cuda else "cpu"
    if name not in ("cpu", "cuda") or (name == "cuda" and not cuda):
        here = "cpu or cuda" if cuda else "cpu"
        raise InputError(f"There is no device {name!r} on this machine; choose {here}, or auto.")
    return name


def dtype_of(name: str) -> torch.dtype:
    """The format called fp32, bf16 or fp16."""
    if name not in DTYPES:
        raise InputError(f"There is no precision {name!r}; choose {', '.join(DTYPES)}.")
    return DTYPES[name]


def name_of(dtype: torch.dtype) -> str:
    """The name of a format in recipes and options."""
    return next(name for name, known in DTYPES.items() if known == dtype)


def accelerator_of(precision: str) -> Any:
    """accelerate's Accelerator for fp32, bf16 or fp16.

    TrainingError where this device, or a process that started in another format, cannot use it.
    """
    from accelerate import Accelerator

    if precision == "fp16" and not torch.accelerator.is_available():
        raise TrainingError(
            "precision fp16 needs a GPU, and there is none here; set precision to fp32 or bf16."
        )
    try:
        return Accelerator(mixed_precision="no" if precision == "fp32" else precision)
    except ValueError as problem:
        raise TrainingError(
            f"This process cannot train in {precision} ({' '.join(str(problem).split())}); start a "
            "new process, or set another precision."
        ) from problem


def is_main_process() -> bool:
    """Whether this is the process, of several that accelerate launched, that prints."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)
