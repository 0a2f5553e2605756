"""The patch file: one HDF5 file for each slide, which plain h5py, CLAM and TRIDENT read too.

    imgs             (N, P, P, 3) uint8, RGB, one patch a chunk
    labels           (N, P, P) uint8, 255 = not annotated; an unannotated slide's take no space
    coords           (N, 2) int64, level-0 x, y of the top-left corner, with CLAM's and TRIDENT's attributes
    tissue           (N,) float32 in [0, 1], share of tissue
    class_fractions  (N, C) float32 in [0, 1], share of each class among all pixels

Drawn images are kept in the same form, so that one reader serves both.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import h5py
import numpy as np

from stedm.config import IGNORE_INDEX
from stedm.errors import UserError
from stedm.files import written_whole

BATCH = 64
OPEN_FILES = 128
"""Files that a process keeps open: a study may have more slides than a process may open files."""


def write_patches(
    path: Path,
    patches: Iterable[tuple[np.ndarray, np.ndarray | None, tuple[int, int], float]],
    size: int,
    class_names: list[str],
    attributes: dict[str, Any] | Callable[[int], dict[str, Any]],
    coords_attributes: dict[str, Any] | None = None,
) -> int:
    """Write a patch file; it appears under its name when it is whole.

    Args:
        path: the file.
        patches: for each patch its image (P, P, 3) uint8, its labels (P, P) uint8 or None where nothing is annotated,
            level-0 (x, y), and its share of tissue.
        size: P, in pixels.
        class_names: names of labels 0, 1, …
        attributes: attributes of the file, or what gives them once the number of patches is known; `fingerprint` (of
            images, labels and coordinates) is added.
        coords_attributes: attributes of `coords`.

    Returns:
        Number of patches.
    """
    with written_whole(path) as temporary, h5py.File(temporary, "w", libver="v110") as file:
        digest = hashlib.sha256()
        images = file.create_dataset(
            "imgs", (0, size, size, 3), "u1", maxshape=(None, size, size, 3), chunks=(1, size, size, 3)
        )
        labels = file.create_dataset(
            "labels", (0, size, size), "u1", maxshape=(None, size, size), chunks=(1, size, size), fillvalue=IGNORE_INDEX
        )
        coords: list[tuple[int, int]] = []
        tissue: list[float] = []
        fractions: list[np.ndarray] = []
        for image, label, position, share in patches:
            count = len(coords) + 1
            if count > len(images):
                images.resize(count + BATCH, 0)
                labels.resize(count + BATCH, 0)
            pixels = np.ascontiguousarray(image, np.uint8)
            images.id.write_direct_chunk((count - 1, 0, 0, 0), pixels)
            digest.update(pixels.data)
            counts = np.zeros(len(class_names), np.int64)
            if label is not None:
                labels[count - 1] = label
                digest.update(label.tobytes())
                counts = np.bincount(label.ravel(), minlength=256)[: len(class_names)]
            fractions.append(counts / size**2)
            coords.append(position)
            tissue.append(share)
        images.resize(len(coords), 0)
        labels.resize(len(coords), 0)
        file["coords"] = np.array(coords, "i8").reshape(-1, 2)
        file["tissue"] = np.array(tissue, "f4")
        file["class_fractions"] = np.array(fractions, "f4").reshape(-1, len(class_names))
        digest.update(file["coords"][()].tobytes())
        file["coords"].attrs.update(coords_attributes or {})
        file.attrs.update(attributes(len(coords)) if callable(attributes) else attributes)
        file.attrs.update({"class_names": class_names, "patch_size": size, "fingerprint": digest.hexdigest()})
    return len(coords)


class PatchFile:
    """Read access to a patch file. Holds no handle itself, so that it can be handed to data loader workers."""

    def __init__(self, path: Path):
        self.path = Path(path)
        try:
            with h5py.File(self.path, "r") as file:
                self.attributes: dict[str, Any] = dict(file.attrs)
                self.coords: np.ndarray = file["coords"][()]
                self.tissue: np.ndarray = file["tissue"][()]
                self.class_fractions: np.ndarray = file["class_fractions"][()]
        except FileNotFoundError:
            raise
        except OSError as error:  # h5py's do not say which file
            raise UserError(
                f"{self.path}: cannot be read as a patch file ({error}); delete it and run again, which makes it anew"
            ) from error

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def file(self) -> h5py.File:
        """The open file, to be read at once: where too many are open, the one that was read longest ago is closed."""
        file = OPENED.pop(self, None) or h5py.File(self.path, "r")
        if len(OPENED) >= OPEN_FILES:
            OPENED.pop(next(iter(OPENED)))
        OPENED[self] = file  # the last
        return file

    @property
    def slide(self) -> str:
        return str(self.attributes["slide"])

    @property
    def fingerprint(self) -> str:
        return str(self.attributes["fingerprint"])

    @property
    def annotated(self) -> np.ndarray:
        """(N,) bool: patches with annotated pixels."""
        return self.class_fractions.sum(1) > 0

    def image(self, index: int) -> np.ndarray:
        """(P, P, 3) uint8."""
        return self.file["imgs"][index]

    def labels(self, index: int) -> np.ndarray:
        """(P, P) uint8, 255 = not annotated."""
        return self.file["labels"][index]

    def images(self) -> Iterator[np.ndarray]:
        """All images in batches (≤ 64, P, P, 3) uint8."""
        for start in range(0, len(self), BATCH):
            yield self.file["imgs"][start : start + BATCH]


OPENED: WeakKeyDictionary[PatchFile, h5py.File] = WeakKeyDictionary()
os.register_at_fork(after_in_child=OPENED.clear)  # a forked worker opens its own


def patch_file(folder: Path, slide: str) -> PatchFile:
    """The patch file of a slide."""
    return PatchFile(Path(folder) / f"{slide}.h5")
