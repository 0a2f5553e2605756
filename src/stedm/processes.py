"""The processes of one training, one for each GPU of a node; without `launch` there is one.

A batch is the same items however many processes share them: each process chooses the items of the whole batch and reads
every nth of them, and makes the random numbers of the whole batch and keeps those of its own. Two processes thus train
what one trains, up to rounding.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed

from stedm.device import device

Values = TypeVar("Values", Tensor, list)


def launch(processes: int, arguments: Sequence[str]) -> NoReturn:
    """Become torchrun, which calls `stedm` with these arguments in so many processes and ends when all have."""
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--module", "stedm.cli"]
    os.execv(sys.executable, [sys.executable, "-m", *torchrun, *arguments])


def rank() -> int:
    """Number of this process; the first one, 0, writes."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_items(values: Values) -> Values:
    """Those items of a whole batch, a list or a tensor (B, …), that are this process's."""
    return values[rank() :: world_size()]


class BatchRng:
    """Random numbers of one step for this process's items of the batch, on the device.

    Every process makes the numbers of the whole batch and keeps those of its own items, so that an item has the same
    numbers however many processes share the batch.

    Args:
        seed: of the training.
        step: of the training.
    """

    def __init__(self, seed: int, step: int):
        state = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)
        self.generator = torch.Generator(device()).manual_seed(int(state[0]))

    def uniform(self, *shape: int) -> Tensor:
        """float32 in [0, 1); `shape` is that of this process, its items first."""
        return own_items(torch.rand(whole(shape), generator=self.generator, device=self.generator.device))

    def normal(self, *shape: int) -> Tensor:
        """float32 of mean 0 and variance 1; see `uniform`."""
        return own_items(torch.randn(whole(shape), generator=self.generator, device=self.generator.device))

    def integers(self, high: int, *shape: int) -> Tensor:
        """int64 in [0, high); see `uniform`."""
        return own_items(torch.randint(high, whole(shape), generator=self.generator, device=self.generator.device))


def whole(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a whole batch, of that of one process's items."""
    return shape[0] * world_size(), *shape[1:]


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
