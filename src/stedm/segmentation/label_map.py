"""Label maps as pyramidal TIFF: tiles of a palette image, in the classes' colours, which OpenSlide and QuPath open."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from stedm.config import IGNORE_INDEX, TissueClass
from stedm.segmentation.windows import batched

TILE = 512


def write_label_map(
    path: Path, strips: Iterable[np.ndarray], shape: tuple[int, int], classes: Sequence[TissueClass], mpp: float | None
) -> None:
    """Write a map that never is in memory as a whole.

    Each level has every second pixel of the one before. Values are labels; 255, white, is what was not predicted.

    Args:
        path: the file, a BigTIFF.
        strips: labels (512, W) uint8, fewer rows in the last, from the top.
        shape: H and W.
        classes: names and colours of labels 0, 1, …
        mpp: µm per pixel of the map, None where it has no scale.
    """
    names = {str(label): item.name for label, item in enumerate(classes)} | {str(IGNORE_INDEX): "not predicted"}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        write_level(file, strips, shape, classes, mpp, description=json.dumps({"classes": names}))
    level = 0
    while max(shape) > TILE:
        shape = -(-shape[0] // 2), -(-shape[1] // 2)
        mpp = None if mpp is None else 2 * mpp
        with tifffile.TiffFile(path) as written, tifffile.TiffWriter(path, append=True) as file:
            write_level(file, halved(read_strips(written.pages[level].aspage())), shape, classes, mpp, subfiletype=1)
        level += 1


def write_level(
    file: tifffile.TiffWriter,
    strips: Iterable[np.ndarray],
    shape: tuple[int, int],
    classes: Sequence[TissueClass],
    mpp: float | None,
    **tags: Any,
) -> None:
    palette = np.full((256, 3), 255, np.uint16)
    palette[: len(classes)] = [item.rgb for item in classes]
    scale: dict[str, Any] = (
        {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    )
    file.write(
        tiles(strips),
        shape=shape,
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="palette",
        colormap=palette.T * 257,
        compression="zlib",
        metadata=None,
        software="stedm",
        **scale,
        **tags,
    )


def tiles(strips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Tiles (512, 512), row by row, filled up with 255."""
    for strip in strips:
        missing = -np.array(strip.shape) % TILE
        padded = np.pad(strip, ((0, missing[0]), (0, missing[1])), constant_values=IGNORE_INDEX)
        for left in range(0, padded.shape[1], TILE):
            yield np.ascontiguousarray(padded[:, left : left + TILE])


def read_strips(page: tifffile.TiffPage) -> Iterator[np.ndarray]:
    """Labels (512, W) uint8, fewer rows in the last, of a level that `write_label_map` wrote."""
    across = -(-page.imagewidth // TILE)
    segments = (np.asarray(segment)[0, :, :, 0] for segment, _, _ in page.segments(maxworkers=1))
    for row in batched(segments, across):
        yield np.hstack(row)


def halved(strips: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Strips of a map of half the size."""
    for pair in batched(strips, 2):
        yield np.vstack([strip[::2, ::2] for strip in pair])
