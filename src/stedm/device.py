"""The one place that names devices."""

import contextlib
import os

import torch

from stedm.config import Device


def device() -> torch.device:
    """CUDA where there is one, else the CPU; of several processes each has a GPU of its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def autocast(options: Device) -> contextlib.AbstractContextManager[object]:
    """Mixed precision on CUDA where asked; on the CPU it gains nothing and is left out."""
    if device().type == "cuda" and options.precision == "bf16":
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


def to_device(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device(), non_blocking=True) for name, tensor in batch.items()}


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
