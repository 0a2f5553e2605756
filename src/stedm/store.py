"""The patch file: one HDF5 file for each slide, which plain h5py, CLAM and TRIDENT read too.

imgs             (N, P, P, 3) uint8, RGB, one patch a chunk; or, an eighth as large,
jpeg             (B,) uint8, the patches' JPEG files one after the other, and
jpeg_offsets     (N + 1,) int64, where each starts, and where the last ends
labels           (N, P, P) uint8, 255 = not annotated; an unannotated slide's take no space
coords           (N, 2) int64, level-0 x, y of the top-left corner, with CLAM's and TRIDENT's attributes
tissue           (N,) float32 in [0, 1], share of tissue
class_fractions  (N, C) float32 in [0, 1], share of each class among all pixels
checksums        (N, 2) uint32, CRC-32 of each image (its pixels, or its JPEG file) and of its labels

`attributes` and `seal` are explained in `stedm.hdf5`.
"""

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import h5py
import numpy as np
import simplejpeg

from stedm.config import IGNORE_INDEX
from stedm.errors import UserError
from stedm.files import written_whole
from stedm.hdf5 import (
    Version,
    attributes,
    check_chunks,
    compare_seal,
    naming,
    new_file,
    open_file,
    open_ours,
    read_all,
    version_of,
)

BATCH = 64
OPEN_FILES = 128
"""Files that a process keeps open: a study may have more slides than a process may open files."""
JPEG_CHUNK = 2**16
"""Bytes."""
LARGEST_PATCH = 8192
"""Pixels along a side."""
GZIP = 1
"""Level of gzip, as far as it is used."""
FULL_COLOUR = 95
"""JPEG quality from which colour keeps its full resolution (4:4:4); below, it has half of it (4:2:0)."""


class Patch(NamedTuple):
    """A patch as it is cut."""

    image: np.ndarray
    """(P, P, 3) uint8 RGB."""
    labels: np.ndarray | None
    """(P, P) uint8, 255 = not annotated; None where nothing is annotated."""
    corner: tuple[int, int]
    """Level-0 x, y of the upper left corner."""
    tissue: float
    """Share of tissue in [0, 1]."""


def write_patches(
    path: Path,
    patches: Iterable[Patch],
    size: int,
    class_names: list[str],
    attributes: dict[str, Any] | Callable[[int], dict[str, Any]],
    coords_attributes: dict[str, Any] | None = None,
    jpeg_quality: int | None = None,
) -> int:
    """Write a patch file; it appears under its name when it is whole.

    Args:
        path: the file.
        patches: the patches.
        size: P, in pixels.
        class_names: names of labels 0, 1, …
        attributes: attributes of the file, or what gives them once the number of patches is known; `fingerprint` (of
            images, labels and coordinates) is added.
        coords_attributes: attributes of `coords`.
        jpeg_quality: store images as JPEG of this quality, 1 to 100; None: as they are.

    Returns:
        Number of patches.
    """
    with written_whole(path) as temporary, new_file(temporary) as file:
        digest = hashlib.sha256()
        images = Rows(file, "imgs", (size, size, 3)) if jpeg_quality is None else Jpegs(file, jpeg_quality)
        labels = file.create_dataset(
            "labels",
            (0, size, size),
            "u1",
            maxshape=(None, size, size),
            chunks=(1, size, size),
            fillvalue=IGNORE_INDEX,
            compression=None if jpeg_quality is None else GZIP,  # next to JPEGs, labels would take the most space
        )
        coords: list[tuple[int, int]] = []
        tissue: list[float] = []
        fractions: list[np.ndarray] = []
        checksums: list[tuple[int, int]] = []
        blank = zlib.crc32(bytes([IGNORE_INDEX]) * size**2)
        for image, label, position, share in patches:
            stored = images.append(image)
            digest.update(stored)
            counts, checksum = np.zeros(len(class_names)), blank
            if label is not None:
                label = np.ascontiguousarray(label)
                checksum = zlib.crc32(label.data)
                make_room(labels, len(coords) + 1)
                data = label.data if jpeg_quality is None else zlib.compress(label.data, GZIP)
                labels.id.write_direct_chunk((len(coords), 0, 0), data)
                digest.update(label.data)
                counts[:] = [np.count_nonzero(label == index) for index in range(len(class_names))]
            checksums.append((zlib.crc32(stored), checksum))
            fractions.append(counts / size**2)
            coords.append(position)
            tissue.append(share)
        images.finish()
        labels.resize(len(coords), 0)
        file["coords"] = np.array(coords, "i8").reshape(-1, 2)
        file["tissue"] = np.array(tissue, "f4")
        file["class_fractions"] = np.array(fractions, "f4").reshape(-1, len(class_names))
        file["checksums"] = np.array(checksums, "u4").reshape(-1, 2)
        digest.update(file["coords"][()].tobytes())
        file["coords"].attrs.update(coords_attributes or {})
        file.attrs.update(attributes(len(coords)) if callable(attributes) else attributes)
        file.attrs.update({"class_names": class_names, "patch_size": size, "fingerprint": digest.hexdigest()})
    return len(coords)


def make_room(dataset: h5py.Dataset, rows: int, more: int = BATCH) -> None:
    """Grow a data set to these rows, and by `more` beyond: growing takes longer than writing a row."""
    if rows > len(dataset):
        dataset.resize(rows + more, 0)


class Rows:
    """Writes arrays of one shape (uint8) as they are, one per chunk."""

    def __init__(self, file: h5py.File, name: str, shape: tuple[int, ...]):
        self.rows = file.create_dataset(name, (0, *shape), "u1", maxshape=(None, *shape), chunks=(1, *shape))
        self.count = 0

    def append(self, row: np.ndarray) -> memoryview:
        """Write an array; returns the bytes that are stored."""
        row = np.ascontiguousarray(row, np.uint8)
        make_room(self.rows, self.count + 1)
        self.rows.id.write_direct_chunk((self.count, *(0 for _ in row.shape)), row)
        self.count += 1
        return row.data

    def finish(self) -> None:
        self.rows.resize(self.count, 0)


class Jpegs:
    """Writes images as JPEG files, one after the other in one array."""

    def __init__(self, file: h5py.File, quality: int):
        self.file, self.quality = file, quality
        self.bytes = file.create_dataset("jpeg", (0,), "u1", maxshape=(None,), chunks=(JPEG_CHUNK,))
        self.offsets = [0]

    def append(self, image: np.ndarray) -> bytes:
        """Write an image (P, P, 3) uint8; returns the bytes that are stored."""
        data = simplejpeg.encode_jpeg(image, self.quality, "RGB", "444" if self.quality >= FULL_COLOUR else "420")
        start, end = self.offsets[-1], self.offsets[-1] + len(data)
        make_room(self.bytes, end, JPEG_CHUNK)
        self.bytes[start:end] = np.frombuffer(data, np.uint8)
        self.offsets.append(end)
        return data

    def finish(self) -> None:
        self.bytes.resize(self.offsets[-1], 0)
        self.file["jpeg_offsets"] = np.array(self.offsets, "i8")


@contextlib.contextmanager
def open_cache(folder: Path, slide: str) -> Iterator[h5py.File]:
    """What a folder of latents, embeddings or layouts has of a slide, open for reading; it stays open.

    Raises:
        UserError: the file is damaged, or another slide's.
    """
    path = folder / f"{slide}.h5"
    with naming(path, f"delete {folder} and run again, which makes it again"):
        yield opened_cache(version_of(path), slide)


@lru_cache(OPEN_FILES)
def opened_cache(version: Version, slide: str) -> h5py.File:
    """The open file of a slide, of which this is the version."""
    path = version[0]
    file = open_file(path)
    compare_seal(path, file)
    if (found := attributes(file)["slide"]) != slide:
        raise ValueError(f"it is of slide {found!r}")
    return file


os.register_at_fork(after_in_child=opened_cache.cache_clear)  # a forked worker opens its own


def check_cache(cache: h5py.File, file: "PatchFile", made_by: str) -> None:
    """Refuse what was cached from other patches, or by another network, as where folders were swapped.

    Args:
        cache: open, as `open_cache` yields it.
        file: the slide's patches.
        made_by: `weights_fingerprint` of the network.

    Raises:
        UserError: it was.
    """
    found = attributes(cache)
    for name, wanted, what in (("patches", file.fingerprint, "patches"), ("made_by", made_by, "weights")):
        if found[name] != wanted:
            raise UserError(
                f"{cache.filename}: was made from other {what} than this is for; delete its folder and run again"
            )


class Opened(NamedTuple):
    """An open file of images and what of it is read again and again."""

    file: h5py.File
    images: h5py.Dataset
    labels: h5py.Dataset


class ImageFile:
    """Read access to a file of images with labels. Holds no handle itself, so that data loader workers can have it."""

    def __init__(self, path: Path):
        self.path = Path(path)
        with open_ours(self.path) as file:
            self.attributes = attributes(file)
            self.jpeg_offsets: np.ndarray | None = read_all(file["jpeg_offsets"]) if "jpeg" in file else None
            self.checksums = read_all(file["checksums"])
            self.count = len(self.checksums)
            self.checked = np.zeros((self.count, 2), bool)
            self.check_shapes(file)
            self.read(file)

    def check_shapes(self, file: h5py.File) -> None:
        """Refuse data sets that do not belong together.

        Raises:
            ValueError: they do not, or patches are larger than any.
        """
        size = self.patch_size
        expected: dict[str, tuple[int, ...]] = {"labels": (self.count, size, size)}
        if self.jpeg_offsets is None:
            expected["imgs"] = (self.count, size, size, 3)
        if size > LARGEST_PATCH or any(
            file[name].shape != shape or file[name].dtype != np.uint8 for name, shape in expected.items()
        ):
            raise ValueError(f"it has not {self.count} images and labels of {size} px")
        for name in ("labels", "imgs" if self.jpeg_offsets is None else "jpeg"):
            check_chunks(file[name])

    def read(self, file: h5py.File) -> None:
        """Read what else the file has."""

    def __len__(self) -> int:
        return self.count

    @property
    def opened(self) -> Opened:
        """The open file, to be read at once: where too many are open, the one that was read longest ago is closed."""
        opened = OPENED.pop(self, None)
        if opened is None:
            file = open_file(self.path, rdcc_nbytes=0)  # no cache of chunks: a patch is seldom read twice in a row
            opened = Opened(file, file["imgs" if self.jpeg_offsets is None else "jpeg"], file["labels"])
        if len(OPENED) >= OPEN_FILES:
            OPENED.pop(next(iter(OPENED)))
        OPENED[self] = opened  # the last
        return opened

    @property
    def file(self) -> h5py.File:
        """The open file."""
        return self.opened.file

    @property
    def fingerprint(self) -> str:
        return str(self.attributes["fingerprint"])

    @property
    def class_names(self) -> list[str]:
        return [str(name) for name in self.attributes["class_names"]]

    @property
    def patch_size(self) -> int:
        """P, in pixels."""
        return int(self.attributes["patch_size"])

    def image(self, index: int) -> np.ndarray:
        """(P, P, 3) uint8.

        Raises:
            UserError: the file is damaged.
        """
        with naming(self.path):
            images = self.opened.images
            if self.jpeg_offsets is None:
                return self.checked_row(0, index, images[index])
            start, end = self.jpeg_offsets[index], self.jpeg_offsets[index + 1]
            return simplejpeg.decode_jpeg(self.checked_row(0, index, images[start:end]), "RGB", strict=True)

    def labels(self, index: int) -> np.ndarray:
        """(P, P) uint8, 255 = not annotated.

        Raises:
            UserError: the file is damaged.
        """
        with naming(self.path):
            return self.checked_row(1, index, self.opened.labels[index])

    def checked_row(self, column: int, index: int, row: np.ndarray) -> np.ndarray:
        """What was read, compared with its checksum the first time that this process reads it.

        Raises:
            ValueError: it is not what was written.
        """
        if not self.checked[index, column]:
            if zlib.crc32(row.data) != self.checksums[index, column]:
                raise ValueError(f"{('image', 'labels')[column]} {index}: the checksum does not match")
            self.checked[index, column] = True
        return row

    def images(self) -> Iterator[np.ndarray]:
        """All images in batches (≤ 64, P, P, 3) uint8."""
        for start in range(0, len(self), BATCH):
            yield np.stack([self.image(index) for index in range(start, min(start + BATCH, len(self)))])


class PatchFile(ImageFile):
    """Read access to a patch file."""

    coords: np.ndarray
    tissue: np.ndarray
    class_fractions: np.ndarray

    def read(self, file: h5py.File) -> None:
        self.coords, self.tissue = read_all(file["coords"]), read_all(file["tissue"])
        self.class_fractions = read_all(file["class_fractions"])

    @property
    def slide(self) -> str:
        return str(self.attributes["slide"])

    @property
    def patient(self) -> str:
        return str(self.attributes["patient"])

    @property
    def annotated(self) -> np.ndarray:
        """(N,) bool: patches with annotated pixels."""
        return self.class_fractions.sum(1) > 0


OPENED: WeakKeyDictionary[ImageFile, Opened] = WeakKeyDictionary()
os.register_at_fork(after_in_child=OPENED.clear)  # a forked worker opens its own


def patch_file(folder: Path, slide: str) -> PatchFile:
    """The patch file of a slide.

    Raises:
        UserError: the file of its name is another slide's.
    """
    file = PatchFile(Path(folder) / f"{slide}.h5")
    with naming(file.path):
        if file.slide != slide:
            raise ValueError(f"it is of slide {file.slide!r}")
    return file
