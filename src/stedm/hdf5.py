"""HDF5 files: written whole or not at all, and read only where they hold what was written, and nothing from elsewhere.

HDF5 crashes the process when it ends after a file that could not be closed for want of space. It is therefore handed a
file that swallows what is written after the first failure, and while it closes; the failure is raised then.

HDF5 has checksums for its own structures, but not for texts nor, by default, for data. A file of ours has a `seal`, the
SHA-256 of its small data sets, compared when it is opened; large data sets have checksums of their own, compared where
they are read: HDF5's Fletcher-32, or CRC-32 in the data set `checksums` (see `stedm.store`). Attributes are there for
others to read. We read their copy, JSON in the data set `attributes`: HDF5 loops for ever on some damaged texts.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stedm.errors import UserError
from stedm.files import check_regular

SEAL = "seal"
ATTRIBUTES = "attributes"
CHECKED_BY_ROW = ("imgs", "jpeg", "labels")
"""Data sets whose rows have their CRC-32 in `checksums`."""
MOST_BYTES = 2**28
"""Of a data set that is read as a whole, the coordinates of 16 million patches; and of a chunk."""
CHUNK_EXTRA = 1024
"""Bytes that packing may add to a chunk that cannot be packed."""
REMEDY = "delete it and run again, which makes it again"


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
    """Create an HDF5 file, for every version since 1.10 to read; it is sealed when the block ends.

    Raises:
        OSError: it cannot be written.
    """
    with Guarded(path, "w+") as guarded, h5py.File(guarded, "w", libver="v110") as file:
        try:
            yield file
            close_with_seal(file)
        finally:
            guarded.closing = True
    if guarded.failure is not None:
        raise guarded.failure


@contextlib.contextmanager
def naming(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Errors of reading an HDF5 file say which it is, as h5py's do not, and what to do.

    Raises:
        UserError: it is cut short, damaged, or not what it should be.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read, it may be cut short or damaged ({error}); {remedy}") from error


def open_file(path: Path, **options: Any) -> h5py.File:
    """Open a file for reading, ours or a stranger's, whose data are all in it.

    A link, or a data set, that leads to another file would have its contents read, shown and published as the slide's.

    Raises:
        ValueError: there is such a thing at its top level, where all is that we read.
    """
    check_regular(path)
    file = h5py.File(path, "r", **options)
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            problem = "a link to another place"
        elif isinstance(item := file[name], h5py.Dataset) and (item.external or item.is_virtual):
            problem = "stored in another file"
        else:
            continue
        file.close()
        raise ValueError(f"{name!r} is {problem}, which is never followed")
    return file


@contextlib.contextmanager
def open_ours(path: Path, remedy: str = REMEDY) -> Iterator[h5py.File]:
    """Open a file that `new_file` made; its seal is compared the first time that this process opens it.

    Raises:
        UserError: it is no such file, or cut short, damaged or changed.
    """
    with naming(path, remedy), open_file(path) as file:
        compare_seal(path, file)
        yield file


Version = tuple[Path, int, int, int]
COMPARED: set[Version] = set()
"""Files whose seal this process has compared, as they were then."""


def version_of(path: Path) -> Version:
    """Tells a file from what was there before under its name."""
    now = path.stat()
    return path, now.st_ino, now.st_mtime_ns, now.st_size


def compare_seal(path: Path, file: h5py.File) -> None:
    """Compare the seal of a file the first time that this process opens it.

    Raises:
        ValueError: it does not match.
    """
    version = version_of(path)
    if version not in COMPARED:
        if bytes(read_all(file[SEAL])) != seal(file):
            raise ValueError("its seal does not match: it was changed, or an older version of stedm wrote it")
        COMPARED.add(version)


def close_with_seal(file: h5py.File) -> None:
    """Add the copy of the attributes, and the seal."""
    found = {name: np.asarray(file.attrs[name]).tolist() for name in file.attrs}
    file[ATTRIBUTES] = np.frombuffer(json.dumps(found).encode(), np.uint8)
    file[SEAL] = np.frombuffer(seal(file), np.uint8)


def seal(file: h5py.File) -> bytes:
    """SHA-256 of the shapes of all data sets, and of the values of those that have no checksums of their own."""
    digest = hashlib.sha256()
    for name in sorted(set(file) - {SEAL}):
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise ValueError(f"{name!r} is no data set")
        digest.update(json.dumps([name, dataset.shape, dataset.dtype.str]).encode())
        if name not in CHECKED_BY_ROW and not dataset.fletcher32:
            digest.update(read_all(dataset).tobytes())
    return digest.digest()


def attributes(file: h5py.File) -> dict[str, Any]:
    """The attributes of a file that `new_file` made: numbers, texts and lists of them."""
    return json.loads(bytes(read_all(file[ATTRIBUTES])))


def read_all(dataset: h5py.Dataset) -> np.ndarray:
    """All values of a data set of numbers that is not too large.

    Raises:
        ValueError: it is too large, not of numbers, or a group.
    """
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{dataset.name} is a group, not a data set")
    if dataset.dtype.kind not in "biuf" or dataset.nbytes > MOST_BYTES:
        raise ValueError(f"{dataset.name} has shape {dataset.shape} and type {dataset.dtype}, which is never read")
    check_chunks(dataset)
    return dataset[()]


def check_chunks(dataset: h5py.Dataset) -> None:
    """Refuse chunks that would fill the memory: one is read and unpacked as a whole, however little of it is wanted.

    Raises:
        ValueError: they are large, or more than what they hold is stored of one.
    """
    if dataset.chunks is None:
        return
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    stored = dataset.id.get_chunk_info(0).size if dataset.id.get_num_chunks() else 0
    if size > MOST_BYTES or stored > size + CHUNK_EXTRA:
        raise ValueError(f"{dataset.name} has chunks of {size:,} bytes ({stored:,} stored), which are never read")
