"""Devices and number formats by the names that recipes use, and networks divided over devices.

A network in training is divided over processes by torch's fully_shard (`network.shard: true`).
Each process keeps its part of every tensor: of the policy, its gradient, the optimiser's state,
and of a second, frozen network, the reference. A block's tensors are whole on a device only while
that block computes. All processes must therefore make every forward pass together: one that makes
a pass more, or fewer, than the others leaves them waiting for ever.

Tensors are divided along their first axis: "whole" is as one process would hold it, "local" is
this process's part of it.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

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


class Gathered(NamedTuple):
    """What a checkpoint needs of a divided network, whole and on the host."""

    policy: dict[str, Tensor]
    optimiser: dict[str, Any]
    """As the optimiser's state_dict of a network that is not divided."""


def divides(shard: bool, accelerator: Any) -> bool:
    """Whether a run divides its network: its recipe asks for it, and it has several processes."""
    return shard and int(accelerator.num_processes) > 1


def divide(unet: Any, accelerator: Any, precision: str) -> None:
    """Divide a network over all processes, in place: from the host onto their devices.

    Block by block, so that no device ever holds the whole. Names of tensors stay as they are.
    In bf16 blocks are gathered in bf16, and gradients summed in float32: left to autocast alone,
    its cache would keep every block's bf16 copy until the pass ends, the whole network again.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(accelerator.device.type, (int(accelerator.num_processes),))
    formats = MixedPrecisionPolicy()
    if precision == "bf16":
        formats = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in [*_blocks(unet), unet]:
        # Also the outermost is divided again after a pass: measuring makes passes that no
        # backward pass follows, and what is saved or compared must be the parts.
        fully_shard(block, mesh=mesh, mp_policy=formats, reshard_after_forward=True)
    # Autocast as in a network that is not divided, and no DDP around it.
    accelerator.prepare_model(unet, device_placement=False, evaluation_mode=True)


@torch.no_grad()
def frozen_twin(unet: Any, accelerator: Any, precision: str) -> torch.nn.Module:
    """The reference: a second network divided alike, with a divided network's present tensors.

    The first cannot be read with other tensors in the places of its own (`denoising.instead`),
    since its blocks gather their own when they compute. Its tensors require a gradient as the
    policy's do, although none is kept: see `denoising.instead`.
    """
    twin = _hollow(unet).requires_grad_(True).eval()
    divide(twin, accelerator, precision)
    twin.to_empty(device=accelerator.device)
    policy = dict(unet.named_parameters())
    for name, tensor in twin.named_parameters():
        local(tensor).copy_(local(policy[name]))
    return twin


def _hollow(unet: Any) -> Any:
    """A network of the same configuration, as diffusers knows it, whose tensors have no memory."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel.from_config(unet.config)


def _blocks(unet: Any) -> list[torch.nn.Module]:
    """What is gathered at a time, inner ones first: transformer blocks, then the rest of each of
    the UNet's blocks."""
    inner = [m for m in unet.modules() if type(m).__name__ in unet._repeated_blocks]
    outer = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    return inner + [block for block in outer if block is not None]


def local(tensor: Tensor) -> Tensor:
    """This process's part of a divided tensor, sharing its memory; any other as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A divided tensor put together, which needs all processes; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def divided_like(tensor: Tensor, value: Any) -> Any:
    """A whole value divided as `tensor` is; as it came where that is whole or of another shape.

    Every process has the value, so nothing is sent.
    """
    if not isinstance(tensor, DTensor) or getattr(value, "shape", None) != tensor.shape:
        return value
    return distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)


def divided_state(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's saved state, each tensor divided as its parameter is."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state = {
        k: {name: divided_like(parameters[k], value) for name, value in kept.items()}
        for k, kept in saved["state"].items()
    }
    return {**saved, "state": state}


def gather(unet: torch.nn.Module, optimiser: Any, *, keep: bool) -> Gathered | None:
    """Policy and optimiser put together, tensor by tensor; None where `keep` is false.

    All processes call it, and one keeps the result, in its host's memory.
    """
    policy = {name: _host(p.detach(), keep) for name, p in unet.named_parameters()}
    saved = optimiser.state_dict()
    state = {
        k: {name: _host(value, keep) for name, value in kept.items()}
        for k, kept in saved["state"].items()
    }
    return Gathered(policy, {**saved, "state": state}) if keep else None


def _host(value: Any, keep: bool) -> Any:
    if not isinstance(value, Tensor):
        return value
    tensor = whole(value)
    return tensor.cpu() if keep else None


def undivided(unet: Any, tensors: dict[str, Tensor]) -> Any:
    """A network of the same configuration that holds these tensors, as diffusers saves it."""
    plain = _hollow(unet)
    plain.load_state_dict(tensors, assign=True)
    return plain


def agreed(accelerator: Any, says: bool) -> bool:
    """Whether `says` is true on every process; all of them must call this."""
    votes = torch.tensor(int(says), device=accelerator.device)
    return int(accelerator.reduce(votes, "sum")) == int(accelerator.num_processes)
