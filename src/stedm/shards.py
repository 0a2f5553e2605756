"""Shards: synthetic labelled images, one HDF5 file for each part of a plan, the same for every source.

    imgs       (N, P, P, 3) uint8, RGB, one image a chunk
    labels     (N, P, P) uint8, the layouts that the images follow, 255 = no layout
    image_id   (N,) int64, the image's number in the plan
    redraws    (N,) int64, how often the image was generated again
    checksums  (N, 2) uint32, CRC-32 of each image and of its layout

Attributes: class_names, patch_size, source and split that it was made for, styled (whether styles were read),
fingerprint (of all data sets).
"""

import hashlib
import zlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd

from stedm.errors import UserError
from stedm.files import written_whole
from stedm.hdf5 import new_file, read_all
from stedm.store import ImageFile, Rows


class Generated(NamedTuple):
    """A generated image."""

    image_id: int
    image: np.ndarray
    """(P, P, 3) uint8 RGB."""
    layout: np.ndarray
    """(P, P) uint8, 255 = no layout."""
    redraws: int


def write_shard(
    path: Path, images: Iterable[Generated], size: int, class_names: Sequence[str], attributes: dict[str, Any]
) -> int:
    """Write a shard; it appears under its name when it is whole.

    Args:
        path: the file.
        images: the generated images.
        size: P, in pixels.
        class_names: names of labels 0, 1, …
        attributes: more attributes of the file.

    Returns:
        Number of images.
    """
    with written_whole(path) as temporary, new_file(temporary) as file:
        digest = hashlib.sha256()
        pixels, labels = Rows(file, "imgs", (size, size, 3)), Rows(file, "labels", (size, size))
        numbers: list[tuple[int, int]] = []
        checksums: list[tuple[int, int]] = []
        for one in images:
            stored = pixels.append(one.image), labels.append(one.layout)
            checksums.append((zlib.crc32(stored[0]), zlib.crc32(stored[1])))
            digest.update(stored[0])
            digest.update(stored[1])
            numbers.append((one.image_id, one.redraws))
        pixels.finish()
        labels.finish()
        image_id, redraws = np.array(numbers, "i8").reshape(-1, 2).T
        file["image_id"], file["redraws"] = image_id, redraws
        file["checksums"] = np.array(checksums, "u4").reshape(-1, 2)
        digest.update(image_id.tobytes() + redraws.tobytes())
        fingerprint = digest.hexdigest()
        file.attrs.update(
            {**attributes, "class_names": list(class_names), "patch_size": size, "fingerprint": fingerprint}
        )
    return len(numbers)


class Shard(ImageFile):
    """Read access to one shard."""

    image_id: np.ndarray
    redraws: np.ndarray

    @property
    def source(self) -> str:
        """Name of what made the images."""
        return str(self.attributes["source"])

    @property
    def split(self) -> str:
        """Name of the split that they were made for."""
        return str(self.attributes["split"])

    def read(self, file: h5py.File) -> None:
        self.image_id, self.redraws = read_all(file["image_id"]), read_all(file["redraws"])


def check_made_for(shards: Iterable[Shard], sources: Collection[str], split: str) -> None:
    """Refuse shards of other sources or another split, as where files or folders were swapped.

    Raises:
        UserError: all of those.
    """
    problems = [
        f"{shard.path}: was made for the source {shard.source} and the split {shard.split}, not for"
        f" {' or '.join(sources)} and {split}; put the right file there, or delete it and run again"
        for shard in shards
        if shard.source not in sources or shard.split != split
    ]
    if problems:
        raise UserError(problems)


class Shards:
    """The images of several shards of one source and split, by their number in the plan.

    Attributes:
        image_ids: numbers of the images that are there.
        redraws: how often each was generated again.

    Raises:
        UserError: they were made for another source or split than the table, or have an image twice.
    """

    def __init__(self, paths: Sequence[Path], table: pd.DataFrame):
        """Open the shards of what a table is about: a plan, a manifest, or scores of images."""
        self.files = [Shard(path) for path in paths]
        for source, split in table[["source", "split"]].drop_duplicates().itertuples(index=False):
            check_made_for(self.files, [source], split)
        self._places = {
            int(image_id): (file, index) for file in self.files for index, image_id in enumerate(file.image_id)
        }
        self.image_ids = list(self._places)
        if len(self.image_ids) < sum(map(len, self.files)):
            raise UserError(f"{paths[0].parent}: its shards have images twice; delete them and run again")
        self.redraws = {image_id: int(file.redraws[index]) for image_id, (file, index) in self._places.items()}

    def image(self, image_id: int) -> np.ndarray:
        """(P, P, 3) uint8 RGB."""
        file, index = self._places[image_id]
        return file.image(index)

    def layout(self, image_id: int) -> np.ndarray:
        """(P, P) uint8, 255 = no layout."""
        file, index = self._places[image_id]
        return file.labels(index)

    @property
    def class_names(self) -> list[str]:
        return self.files[0].class_names

    @property
    def styled(self) -> bool:
        """Whether the images have a style that was read from images."""
        return bool(self.files[0].attributes["styled"])
