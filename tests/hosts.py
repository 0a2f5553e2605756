"""Counts how often the host reads a tensor: on a GPU it would wait each time until the device has done its work."""

import contextlib
import traceback

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READS = {
    "aten::_local_scalar_dense",  # item, tolist, bool, float, int
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",  # the size of what these return is read
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_consecutive",
    "aten::repeat_interleave.Tensor",
}


class Reads(TorchDispatchMode):
    """What read a tensor, as lines of the traceback."""

    def __init__(self):
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        schema = function._schema
        masked = schema.name == "aten::index" and any(
            one is not None and one.dtype == torch.bool for one in arguments[1]
        )
        if masked or schema.name in READS or f"{schema.name}.{schema.overload_name}" in READS:
            self.note()
        return function(*arguments, **keywords or {})

    def note(self):
        frames = [frame for frame in traceback.extract_stack() if "/src/stedm/" in frame.filename]
        self.places.append(f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "outside")


@contextlib.contextmanager
def counted(monkeypatch):
    """Reads of tensors by the host; `cpu`, `numpy` and `tolist` count even where the tensor is on the CPU."""
    with Reads() as reads, monkeypatch.context() as patched:
        for name in ("cpu", "numpy", "tolist", "item"):
            original = getattr(torch.Tensor, name)

            def read(self, *arguments, original=original, **keywords):
                reads.note()
                return original(self, *arguments, **keywords)

            patched.setattr(torch.Tensor, name, read)
        yield reads.places
