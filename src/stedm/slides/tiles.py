"""The fast path: patches from the JPEG tiles of a TIFF level, without OpenSlide.

OpenSlide spends two thirds of its time compositing, and on a grid of patches it decodes a tile for each patch that
touches it. Here a tile is decoded once, and kept until the last patch that was announced has taken its part of it.
libjpeg-turbo lets other threads run meanwhile. Coordinates are pixels of the level.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterable
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
    _wanted: Counter[int] = field(default_factory=Counter)
    _kept: dict[int, np.ndarray] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
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

    def touched(self, x: int, y: int, w: int, h: int) -> list[int]:
        """Numbers of the tiles that lie in a window, row by row."""
        columns = range(max(0, x // self.tile_width), -(-min(x + w, self.width) // self.tile_width))
        rows = range(max(0, y // self.tile_height), -(-min(y + h, self.height) // self.tile_height))
        return [row * self.columns + column for row in rows for column in columns]

    def announce(self, corners: Iterable[tuple[int, int]], side: int) -> None:
        """Say which squares will be read, x, y of their upper left: tiles are kept until the last has its part."""
        for x, y in corners:
            self._wanted.update(self.touched(x, y, side, side))

    def read(self, x: int, y: int, w: int, h: int, out: np.ndarray | None = None) -> np.ndarray:
        """A window as (h, w, 3) uint8 RGB, white beyond the level and where a tile was left out.

        Args:
            x: left edge.
            y: upper edge.
            w: width.
            h: height.
            out: where to write it; new memory without.

        Raises:
            BrokenTile: one that it needs.
        """
        window = np.empty((h, w, 3), np.uint8) if out is None else out
        window[: max(0, -y)] = window[max(0, self.height - y) :] = 255
        window[:, : max(0, -x)] = window[:, max(0, self.width - x) :] = 255
        broken = [tile for tile in self.touched(x, y, w, h) if not self._paint(window, x, y, tile)]
        if broken:
            raise BrokenTile(f"{len(broken)} broken tiles")
        return window

    def read_square(self, x: int, y: int, side: int) -> np.ndarray:
        """As `read`; overwritten by this thread's next call."""
        return self.read(x, y, side, side, self._reused("square", (side, side, 3)))

    def _paint(self, window: np.ndarray, x: int, y: int, tile: int) -> bool:
        """Paint a tile onto a window (h, w, 3) with upper left x, y; False where it is broken."""
        try:
            pixels = self._take(tile)
        except BrokenTile:
            return False
        row, column = divmod(tile, self.columns)
        top, left = row * self.tile_height - y, column * self.tile_width - x
        # The last tiles are clipped to the level: OpenSlide shows nothing of their rest.
        y0, y1 = max(0, top), min(top + self.tile_height, self.height - y, window.shape[0])
        x0, x1 = max(0, left), min(left + self.tile_width, self.width - x, window.shape[1])
        window[y0:y1, x0:x1] = pixels[y0 - top : y1 - top, x0 - left : x1 - left]
        return True

    def _take(self, tile: int) -> np.ndarray:
        """A tile's pixels, kept or decoded; kept on while announced squares want it."""
        with self._lock:
            self._wanted[tile] = wanted = max(0, self._wanted[tile] - 1)
            pixels = self._kept.get(tile) if wanted else self._kept.pop(tile, None)
        if pixels is None:
            shape = self.tile_height, self.tile_width, 3
            pixels = self.decode(tile, np.empty(shape, np.uint8) if wanted else self._reused("tile", shape))
            with self._lock:
                if self._wanted[tile] > 0:  # still: another thread may have been the last
                    self._kept[tile] = pixels
        return pixels

    def decode(self, tile: int, out: np.ndarray) -> np.ndarray:
        """A tile's pixels, (tile_height, tile_width, 3) uint8, written to `out`.

        Raises:
            BrokenTile: it is not what the file says it is.
        """
        count = int(self.counts[tile])
        if not count:
            out[:] = 255
            return out
        data = os.pread(self._file.fileno(), count, int(self.offsets[tile]))
        if len(data) < count or not data.startswith(b"\xff\xd8"):
            raise BrokenTile(f"tile {tile} is cut short or no JPEG")
        try:
            # Strict: libjpeg fills what is missing with grey, and calls that a warning.
            pixels = simplejpeg.decode_jpeg(self.head + data[2:], buffer=out)
        except ValueError as error:
            raise BrokenTile(f"tile {tile}: {error}") from error
        if pixels.shape != out.shape:
            raise BrokenTile(f"tile {tile} is of another size")
        return pixels

    def _reused(self, name: str, shape: tuple[int, int, int]) -> np.ndarray:
        """This thread's memory of that name: it stays in the processor's cache, as fresh memory does not."""
        found = getattr(self._thread, name, None)
        if found is None or found.shape != shape:
            found = np.empty(shape, np.uint8)
            setattr(self._thread, name, found)
        return found


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
