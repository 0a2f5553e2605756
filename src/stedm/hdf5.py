"""HDF5 files on a disk that may be full.

HDF5 crashes the process when it ends after a file that could not be closed for want of space. It is therefore handed a
file that swallows what is written after the first failure, and while it closes; the failure is raised then.
"""

import contextlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import h5py


class Guarded(FileIO):
    """A file that fails once. `h5py` takes no notice of short writes, so that all of the data are written or none."""

    failure: OSError | None = None
    closing = False

    def write(self, data) -> int:
        left = memoryview(data)
        with self.failing_once():
            while left:
                left = left[super().write(left) :]
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        with self.failing_once():
            super().truncate(size)
        return self.tell() if size is None else size

    @contextlib.contextmanager
    def failing_once(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            first, self.failure = self.failure is None, self.failure or error
            if first and not self.closing:
                raise


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """Create an HDF5 file, for every version since 1.10 to read.

    Raises:
        OSError: it cannot be written.
    """
    with Guarded(path, "w+") as guarded, h5py.File(guarded, "w", libver="v110") as file:
        try:
            yield file
        finally:
            guarded.closing = True
    if guarded.failure is not None:
        raise guarded.failure
