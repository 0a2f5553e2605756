"""The one place that names devices."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from stedm.config import Device

Item = TypeVar("Item")
Result = TypeVar("Result")
MEMORY_SHARE = 0.7
"""Of the free memory of a GPU, that batches sized by it fill."""
log = logging.getLogger(__name__)


def device() -> torch.device:
    """CUDA where there is one, else the CPU; of several processes each has a GPU of its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def autocast(options: Device) -> contextlib.AbstractContextManager[object]:
    """Mixed precision on CUDA where asked. On the CPU it is left out: few have bf16, and networks of depthwise
    convolutions gain nothing by it."""
    if device().type == "cuda" and options.precision == "bf16":
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


def made_fast(options: Device, *networks: Any) -> None:
    """Prepare networks for CUDA, if they run there: convolutions with channels last, compiled where asked.

    Each network (a module, or None) becomes one graph, compiled when it is first called.
    """
    if device().type != "cuda":
        return
    for network in networks:
        if network is not None:
            network.to(memory_format=torch.channels_last)
            if options.compile:
                network.compile()


def default_workers() -> int:
    """Processes that load data for one training process: none on the CPU, which has work enough; with CUDA one for each
    core but one, at most eight."""
    if not torch.cuda.is_available():
        return 0
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(8, max(1, cores - 1))


class BatchSize:
    """How many items a network takes at a time.

    Where memory runs out, the batch is halved once, and the same items are taken again.

    Args:
        size: of a batch; None: 32, and with CUDA, once the first batch has shown what it takes, what free memory holds.
    """

    def __init__(self, size: int | None):
        self.size = size or 32
        self.grows = size is None and torch.cuda.is_available()
        self.halved = False

    def batches(
        self, items: Sequence[Item], function: Callable[[Any], Result]
    ) -> Iterator[tuple[Sequence[Item], Result]]:
        """Batches of items, each with what a function makes of it.

        Raises:
            torch.OutOfMemoryError: memory runs out a second time.
        """
        start = 0
        while start < len(items):
            some = items[start : start + self.size]
            try:
                with self.measured(len(some)):
                    result = function(some)
            except torch.OutOfMemoryError:
                if self.halved or len(some) == 1:
                    raise
                self.halved, self.grows, self.size = True, False, len(some) // 2
                log.warning("memory ran out with %d items at a time: going on with %d", len(some), self.size)
            else:
                start += len(some)
                yield some, result
                continue
            torch.cuda.empty_cache()  # after the exception, which holds on to what the function had made

    @contextlib.contextmanager
    def measured(self, count: int) -> Iterator[None]:
        """Set the size of the next batches by what one of `count` items takes."""
        if not self.grows:
            yield
            return
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield
        taken = max(1, torch.cuda.max_memory_allocated() - before)
        free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        self.size, self.grows = max(self.size, int(count * MEMORY_SHARE * free / taken)), False


def within_memory(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of arrays of images, in halves from the first time on that memory runs out."""
    at_once = BatchSize(2**20)

    def in_parts(images: Any) -> np.ndarray:
        parts = [result for _, result in at_once.batches(images, function)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return in_parts


def to_device(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device(), non_blocking=True) for name, tensor in batch.items()}


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
