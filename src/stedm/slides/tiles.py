"""The fast path: patches from the JPEG tiles of a TIFF level, without OpenSlide.

OpenSlide spends two thirds of its time compositing, and on a grid of patches it decodes a tile for each patch that
touches it. Here the tiles of a block of patches are decoded once each onto one canvas, and the patches are cut out of
it. libjpeg-turbo lets other threads run meanwhile. Coordinates are pixels of the level.
"""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import simplejpeg
import tifffile

ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
"""JPEG's APP14 segment but for its last byte, the colour transform: 0 for RGB, 1 for YCbCr."""
TRANSFORM: dict[int, bytes] = {tifffile.PHOTOMETRIC.RGB: b"\x00", tifffile.PHOTOMETRIC.YCBCR: b"\x01"}


class BrokenTile(Exception):
    """The bytes of a tile are not there, cut short, or no JPEG."""


@dataclass(frozen=True)
class TiledLevel:
    """A level of a tiled JPEG TIFF, open for reading by several threads at once.

    Attributes:
        width: of the level.
        height: of the level.
        tile_width: of a tile; those at the edges reach beyond the level.
        tile_height: of a tile.
        offsets: (T,) where each tile's bytes begin, row by row.
        counts: (T,) how many they are; 0 for a tile that was left out as empty.
        head: what stands before a tile's own segments: start of image, colour transform, shared tables.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    offsets: np.ndarray
    counts: np.ndarray
    head: bytes
    _file: BinaryIO
    _thread: threading.local = field(default_factory=threading.local)

    @classmethod
    def open(cls, path: Path, size: tuple[int, int]) -> Self | None:
        """The level of this (width, height), or None where its tiles are no JPEGs of 3 × 8 bits."""
        try:
            with tifffile.TiffFile(path) as file:
                pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage) and is_level(page, size)]
                if not pages:
                    return None
                page = pages[0]
                tables = page.jpegtables or b"\xff\xd8\xff\xd9"
                head = b"\xff\xd8" + ADOBE + TRANSFORM[page.photometric] + tables[2:-2]
                offsets, counts = np.array(page.dataoffsets), np.array(page.databytecounts)
                tile = page.tilewidth, page.tilelength
        except (tifffile.TiffFileError, ValueError):  # its index is odd: OpenSlide may know better
            return None
        return cls(*size, *tile, offsets, counts, head, path.open("rb"))

    def close(self) -> None:
        self._file.close()

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile_width)

    def touched(self, x: int, y: int, w: int, h: int) -> np.ndarray:
        """Numbers of the tiles that lie in a window, row by row."""
        columns = np.arange(max(0, x // self.tile_width), -(-min(x + w, self.width) // self.tile_width))
        rows = np.arange(max(0, y // self.tile_height), -(-min(y + h, self.height) // self.tile_height))
        return (rows[:, None] * self.columns + columns).ravel()

    def read(self, x: int, y: int, w: int, h: int) -> np.ndarray:
        """A window as (h, w, 3) uint8 RGB, white beyond the level and where a tile was left out.

        Raises:
            BrokenTile: one that it needs.
        """
        canvas = np.empty((h, w, 3), np.uint8)
        if broken := self.paint(canvas, x, y, self.touched(x, y, w, h)):
            raise BrokenTile(f"{len(broken)} broken tiles")
        return canvas

    def read_squares(self, corners: np.ndarray, side: int) -> Iterator[np.ndarray | None]:
        """Squares near each other, of which each tile is decoded once.

        Args:
            corners: (N, 2) int x, y of the upper left corners. The canvas covers them all.
            side: of the squares.

        Yields:
            (side, side, 3) uint8 RGB, overwritten by this thread's next call; None where a tile is broken.
        """
        left, upper = corners.min(0).tolist()
        width, height = (corners.max(0) - (left, upper) + side).tolist()
        touched = [self.touched(x, y, side, side) for x, y in corners.tolist()]
        canvas = self._canvas(width, height)
        broken = self.paint(canvas, left, upper, np.unique(np.concatenate(touched)))
        for (x, y), tiles in zip((corners - (left, upper)).tolist(), touched, strict=True):
            yield None if broken.intersection(tiles.tolist()) else canvas[y : y + side, x : x + side]

    def paint(self, canvas: np.ndarray, x: int, y: int, tiles: np.ndarray) -> set[int]:
        """Decode tiles onto a canvas (h, w, 3) whose upper left is at x, y.

        Returns:
            Numbers of the tiles that are broken; their pixels on the canvas mean nothing.
        """
        bottom, right = self.height - y, self.width - x
        canvas[: max(0, -y)] = canvas[max(0, bottom) :] = 255
        canvas[:, : max(0, -x)] = canvas[:, max(0, right) :] = 255
        broken = set()
        for tile in tiles.tolist():
            row, column = divmod(tile, self.columns)
            top, left = row * self.tile_height - y, column * self.tile_width - x
            # The last tiles are clipped to the level: OpenSlide shows nothing of their rest.
            y0, y1 = max(0, top), min(top + self.tile_height, bottom, len(canvas))
            x0, x1 = max(0, left), min(left + self.tile_width, right, canvas.shape[1])
            try:
                canvas[y0:y1, x0:x1] = self.decode(tile)[y0 - top : y1 - top, x0 - left : x1 - left]
            except BrokenTile:
                broken.add(tile)
        return broken

    def decode(self, tile: int) -> np.ndarray:
        """A tile's pixels, (h, w, 3) uint8; overwritten by this thread's next call.

        Raises:
            BrokenTile: it is not what the file says it is.
        """
        shape = self.tile_height, self.tile_width, 3
        if not self.counts[tile]:
            return np.broadcast_to(np.uint8(255), shape)
        count = int(self.counts[tile])
        data = os.pread(self._file.fileno(), count, int(self.offsets[tile]))
        if len(data) < count or not data.startswith(b"\xff\xd8"):
            raise BrokenTile(f"tile {tile} is cut short or no JPEG")
        data = self.head + data[2:]
        try:
            if simplejpeg.decode_jpeg_header(data)[:2] != shape[:2]:
                raise BrokenTile(f"tile {tile} is of another size")
            # Strict: libjpeg fills what is missing with grey, and calls that a warning.
            return simplejpeg.decode_jpeg(data, buffer=self._buffer(shape))
        except ValueError as error:
            raise BrokenTile(f"tile {tile}: {error}") from error

    def _canvas(self, width: int, height: int) -> np.ndarray:
        """This thread's canvas: fresh memory costs as much as a tenth of the decoding."""
        size = width * height * 3
        if getattr(self._thread, "canvas", np.empty(0)).size < size:
            self._thread.canvas = np.empty(size, np.uint8)
        return self._thread.canvas[:size].reshape(height, width, 3)

    def _buffer(self, shape: tuple[int, int, int]) -> np.ndarray:
        if not hasattr(self._thread, "buffer"):
            self._thread.buffer = np.empty(shape, np.uint8)
        return self._thread.buffer


def is_level(page: tifffile.TiffPage, size: tuple[int, int]) -> bool:
    """Whether a TIFF page is a level of this (width, height) that `TiledLevel` can read."""
    return (
        (page.imagewidth, page.imagelength) == size
        and page.is_tiled
        and page.compression == tifffile.COMPRESSION.JPEG
        and page.photometric in TRANSFORM
        and page.planarconfig == tifffile.PLANARCONFIG.CONTIG
        and (page.samplesperpixel, page.bitspersample, page.imagedepth) == (3, 8, 1)
    )
