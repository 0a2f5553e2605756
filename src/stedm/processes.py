"""The processes of one training, one for each GPU of a node; without `launch` there is one.

A batch is the same items however many processes share them: each process makes the whole batch and keeps every nth of
its items, and draws the noise of the whole batch and keeps that of its own. Two processes thus train what one trains,
up to rounding.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, distributed

Shape = tuple[int, ...]


def launch(processes: int, arguments: Sequence[str]) -> NoReturn:
    """Become torchrun, which calls `stedm` with these arguments in so many processes and ends when all have."""
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--module", "stedm.cli"]
    os.execv(sys.executable, [sys.executable, "-m", *torchrun, *arguments])


def rank() -> int:
    """Number of this process; the first one, 0, writes."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_items(values: Tensor) -> Tensor:
    """Those items of a whole batch (B, …) that are this process's."""
    return values[rank() :: world_size()]


def drawn(draw: Callable[[Shape], Tensor], shape: Shape) -> Tensor:
    """Random numbers for this process's items, out of those of the whole batch: all processes draw alike.

    Args:
        draw: such as `torch.randn`, from the CPU's generator, which has the same state in all processes.
        shape: of what this process needs, its items first.
    """
    return own_items(draw((shape[0] * world_size(), *shape[1:])))


def all_items(values: Tensor) -> Tensor:
    """The items of all processes (in another order than the batch's); gradients flow back to where they come from.

    For losses that are not a mean over items: each process works out that of the whole batch.
    """
    return _AllItems.apply(values) if distributed.is_initialized() else values


class _AllItems(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(world_size())]
        distributed.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]
