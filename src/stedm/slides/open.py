"""Slides and ordinary images through one interface, at any resolution down from their own.

Coordinates are level-0 pixels, x to the right and y down; a downsample is level-0 pixels per pixel read.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Self

import cv2
import numpy as np
import openslide
from PIL import Image

from stedm.config import MAX_MEGAPIXELS, Patches
from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides.annotations.origin import Area
from stedm.slides.readers import UnreadableSlide, named, open_file, to_number
from stedm.slides.tiles import BrokenTile, TiledLevel

TOLERANCE = 0.02
"""Resolutions that differ by less are the same: a level is then read as it is, without resampling."""
FINEST, COARSEST = 0.02, 20.0
"""µm per pixel. Microscopes do not go beyond; a file that says more means the paper it is to be printed on (72 dpi)."""
BLOCK = 2048**2
"""Pixels decoded at once, at most: memory does not grow with the slide."""
SMALLEST_PART = 256
"""Pixels of a level: in parts so small what is broken is told from what is not."""
READ_THROUGH = 10
"""A level that is read through, tile by tile, may have so many times the pixels of an image that is decoded whole."""
COMPARED = 3
"""Patches of each slide that OpenSlide reads too, before the fast path is trusted with the others."""
SHIFTED = 12.0
"""Mean difference in grey levels that OpenSlide may have from the fast path where a patch lies between a level's
pixels: OpenSlide interpolates them, the fast path takes the nearest. Swapped or unconverted colours differ by more."""
TILED = ("aperio", "generic-tiff")
"""Vendors, by OpenSlide's names, whose levels are plain TIFF pages without overlap."""

log = logging.getLogger(__name__)
Reader = Callable[[int, int, int, int, float], np.ndarray]


class OpenedSlide:
    """A slide open for reading. Get it from `open_slide`; close it, or use it in a `with` block.

    Attributes:
        slide: the row of the sheet.
        reader: who reads its patches: "openslide <vendor>", "pillow <format>", "tifffile", or "tiles <vendor>" for the
            fast path.
        dimensions: (width, height) of level 0.
        bounds: level-0 x, y, width and height of the scanned area, None where it is all of the slide.
        level_dimensions: (width, height) of each level.
        level_downsamples: of each level.
        objective: objective power, where the file says it.
        file_mpp: µm per level-0 pixel in x and y as the file says, be they possible or not, or None.
        mpp: µm per level-0 pixel that count, or None.
        mpp_source: "slide", "sheet" or "none".
        level: level that patches are read from.
        downsample: level-0 pixels per pixel of a patch.
        notes: what the user should know, though it stops nothing.
    """

    def __init__(self, slide: Slide, max_megapixels: float = MAX_MEGAPIXELS):
        self.slide, self.max_megapixels = slide, max_megapixels
        found = open_file(slide, max_megapixels)
        self._handle, self.reader = found.handle, found.reader
        self.level_dimensions = tuple(self._handle.level_dimensions)
        self.level_downsamples = tuple(float(value) for value in self._handle.level_downsamples)
        self.dimensions = self.level_dimensions[0]
        self.objective = to_number(self._handle.properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER))
        self.notes = list(found.notes)
        self.file_mpp = found.mpp
        self.mpp, self.mpp_source = self._scale()
        self.bounds = bounds_of(self._handle)
        if self.bounds is not None:
            self.notes.append(
                "its scanned area is {2} × {3} px from x {0}, y {1} of a canvas of {4} × {5} px; coordinates of QuPath"
                " (GeoJSON) count from there, others from the canvas's corner (annotations.origin)".format(
                    *self.bounds, *self.dimensions
                )
            )
        self.level, self.downsample = 0, 1.0
        self._tiles: TiledLevel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._handle.close()
        if self._tiles is not None:
            self._tiles.close()

    def _scale(self) -> tuple[float | None, str]:
        """µm per level-0 pixel and where it comes from: the sheet overrules a file that says something else."""
        given = self.slide.mpp
        if given and not is_microscopes(given):
            raise UserError(
                f"{named(self.slide)}: {given:g} µm/px are given, which no microscope has ({FINEST:g} to {COARSEST:g});"
                " correct the number (nm or mm?), or leave it out and set patches.level instead of patches.mpp"
            )
        if self.file_mpp is None or not all(map(is_microscopes, self.file_mpp)):
            return given, "sheet" if given else "none"
        x, y = self.file_mpp
        if given and not (same(x, given) and same(y, given)):
            said = f"{x:g}" if same(x, y) else f"{x:g} × {y:g}"
            self.notes.append(f"the file says {said} µm/px, the sheet (or --mpp) {given:g}, which is used")
            return given, "sheet"
        if not same(x, y):
            raise UserError(
                f"{named(self.slide)}: its pixels are not square ({x:g} × {y:g} µm); resample it so that they are, or"
                ' give its true micrometres per pixel in the column "mpp"'
            )
        return (x + y) / 2, "slide"

    @property
    def patch_mpp(self) -> float | None:
        """µm per pixel of patches, or None where the slide has no scale."""
        return None if self.mpp is None else self.mpp * self.downsample

    def level_for(self, downsample: float) -> tuple[int, float]:
        """The coarsest level that is at least this fine, and how many of its pixels make one pixel (1 = as it is)."""
        fine = [item for item, value in enumerate(self.level_downsamples) if value <= downsample * (1 + TOLERANCE)]
        if not fine:
            raise ValueError(f"downsample {downsample} is finer than level 0")
        level = max(fine, key=lambda item: self.level_downsamples[item])
        factor = downsample / self.level_downsamples[level]
        return level, 1.0 if same(factor, 1.0) else factor

    def read_region(self, x0: int, y0: int, w: int, h: int, downsample: float = 1.0) -> np.ndarray:
        """Read a region, area-resampled from the next finer level.

        Args:
            x0: left edge in level-0 pixels; the region may reach beyond the slide.
            y0: upper edge in level-0 pixels.
            w: width in pixels of the result.
            h: height in pixels of the result.
            downsample: level-0 pixels per pixel of the result, at least 1.

        Returns:
            (h, w, 3) uint8 RGB, white where the slide is transparent or ends.

        Raises:
            UnreadableSlide: a tile is broken.
        """
        level, factor = self.level_for(downsample)
        if w * h > 1 and w * h * factor**2 > BLOCK:
            return np.concatenate(*self._halves(self.read_region, x0, y0, w, h, downsample))
        pixels = self._read(x0, y0, level, max(1, round(w * factor)), max(1, round(h * factor)))
        return resampled(pixels, w, h, factor)

    def read_readable(self, x0: int, y0: int, w: int, h: int, downsample: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """As `read_region`, but what is broken is grey; and where that is, (h, w) bool.

        Raises:
            UnreadableSlide: more than half of it is broken, or so much must be decoded for it that it takes minutes.
        """
        _, factor = self.level_for(downsample)
        if (most := READ_THROUGH * self.max_megapixels) * 1e6 < (pixels := w * h * factor**2):
            raise UnreadableSlide(
                f"{named(self.slide)}: has no small level, so that {pixels / 1e6:,.0f} Mpx would be decoded to see all"
                f" of it, more than {most:,.0f}; save it as a pyramid (vips tiffsave in.tif out.tif --tile --pyramid"
                f" --bigtiff --compression jpeg), or raise patches.max_megapixels ({self.max_megapixels:g})"
            )
        image = self._read_readable(x0, y0, w, h, downsample)
        if image[:, :, 3].mean() > 0.5:
            raise UnreadableSlide(
                f"{named(self.slide)}: is broken, {image[:, :, 3].mean():.0%} of it at downsample {downsample:g} cannot"
                " be read; copy it again from its source, or take it out of the sheet"
            )
        return image[:, :, :3], image[:, :, 3] > 0

    def _read_readable(self, x0: int, y0: int, w: int, h: int, downsample: float) -> np.ndarray:
        """(h, w, 4) uint8: RGB, and 1 where it is broken."""
        try:
            return np.dstack([self.read_region(x0, y0, w, h, downsample), np.zeros((h, w), np.uint8)])
        except UnreadableSlide:
            _, factor = self.level_for(downsample)
            if w * h == 1 or max(w, h) * factor <= SMALLEST_PART:
                return np.full((h, w, 4), (128, 128, 128, 1), np.uint8)
            return np.concatenate(*self._halves(self._read_readable, x0, y0, w, h, downsample))

    def _halves(
        self, read: Reader, x0: int, y0: int, w: int, h: int, downsample: float
    ) -> tuple[list[np.ndarray], int]:
        """A region's two halves and the axis along which they follow each other."""
        if w >= h:
            left = (w + 1) // 2
            right = x0 + round(left * downsample)
            return [read(x0, y0, left, h, downsample), read(right, y0, w - left, h, downsample)], 1
        top = (h + 1) // 2
        below = y0 + round(top * downsample)
        return [read(x0, y0, w, top, downsample), read(x0, below, w, h - top, downsample)], 0

    def read_patches(self, corners: np.ndarray, size: int) -> Iterator[np.ndarray | None]:
        """Patches at `level` and `downsample`; may be called by several threads.

        Args:
            corners: (N, 2) int, level-0 x, y of their upper left.
            size: of their sides, in their own pixels.

        Yields:
            (size, size, 3) uint8 RGB, as `read_region` gives them; None where a tile is broken.
        """
        side, factor = self.patch_side(size)
        for x, y in corners.tolist():
            try:
                if self._tiles is None or side**2 > BLOCK:
                    yield self.read_region(x, y, size, size, self.downsample)
                else:
                    yield resampled(self._tiles.read_square(*self._place(x, y), side), size, size, factor)
            except (UnreadableSlide, BrokenTile):
                yield None

    def announce(self, corners: np.ndarray, size: int) -> None:
        """Say which patches will be read, and these alone, so that tiles which several of them need are kept."""
        if self._tiles is not None:
            side, _ = self.patch_side(size)
            self._tiles.announce([self._place(x, y) for x, y in corners.tolist()], side)

    def _place(self, x: int, y: int) -> tuple[int, int]:
        """The pixel of the patches' level that is nearest to level-0 coordinates."""
        downsample = self.level_downsamples[self.level]
        return round(x / downsample), round(y / downsample)

    def patch_side(self, size: int) -> tuple[int, float]:
        """Pixels of the level along a patch's side, and how many of them make one pixel of the patch."""
        _, factor = self.level_for(self.downsample)
        return max(1, round(size * factor)), factor

    def choose_reader(self, corners: np.ndarray, size: int) -> None:
        """Take the fast path for the patches' level, if it is a tiled JPEG TIFF and random patches are OpenSlide's.

        Args:
            corners: (N, 2) int, level-0 x, y of the patches that will be read.
            size: of their sides, in their own pixels.
        """
        vendor = self.reader.removeprefix("openslide ")
        if vendor not in TILED or not len(corners):
            return
        tiles = TiledLevel.open(self.slide.path, self.level_dimensions[self.level])
        if tiles is None:
            return
        side, _ = self.patch_side(size)
        problem = self._judge(tiles, np.random.default_rng(0).permutation(corners), min(side, int(BLOCK**0.5)))
        if problem:
            self.notes.append(f"read by OpenSlide, not by its tiles: {problem}")
            log.warning("%s: %s", self.slide.slide, self.notes[-1])
            tiles.close()
        else:
            self._tiles, self.reader = tiles, f"tiles {vendor}"

    def _judge(self, tiles: TiledLevel, corners: np.ndarray, side: int) -> str:
        """What speaks against the fast path, "" for nothing: the first patches that both can read must be the same."""
        downsample = self.level_downsamples[self.level]
        if self.level > 0 and not tiles.counts.all():
            return "tiles are left out of a level below the first, which OpenSlide fills from the finer one"
        compared = 0
        for x, y in corners[: 10 * COMPARED].tolist():
            place = self._place(x, y)
            try:
                expected = self._read(x, y, self.level, side, side).astype(np.int16)
                difference = np.abs(tiles.read(*place, side, side) - expected)
            except (UnreadableSlide, BrokenTile):
                continue
            between = np.abs(np.subtract((x, y), np.multiply(place, downsample))).max() > 1e-3
            if difference.mean() > SHIFTED if between else difference.any():
                return f"at x {x}, y {y} pixels differ from OpenSlide's by up to {difference.max()}"
            compared += 1
            if compared == COMPARED:
                break
        return "" if compared else "none of the patches tried can be read"

    def _read(self, x0: int, y0: int, level: int, w: int, h: int) -> np.ndarray:
        """A region of a level, (h, w, 3) uint8; x0, y0 in level-0 pixels."""
        try:
            if self._tiles is not None and level == self.level:
                return self._tiles.read(*self._place(x0, y0), w, h)
            return on_white(self._read_handle(x0, y0, level, w, h))
        except (openslide.OpenSlideError, OSError, BrokenTile) as error:
            raise UnreadableSlide(
                f"{named(self.slide)}: is broken at x {x0}, y {y0}, level {level} ({error}); copy it again from its"
                " source, or take it out of the sheet"
            ) from error

    def _read_handle(self, x0: int, y0: int, level: int, w: int, h: int) -> Image.Image:
        """As RGBA. After one error an OpenSlide handle fails for ever, in all threads: another takes its place."""
        try:
            return self._handle.read_region((x0, y0), level, (w, h))
        except openslide.OpenSlideError:
            fresh = openslide.OpenSlide(self.slide.path)  # nobody else's: its error is this region's
            try:
                image = fresh.read_region((x0, y0), level, (w, h))
            except openslide.OpenSlideError:
                self._handle = openslide.OpenSlide(self.slide.path)
                raise
            self._handle = fresh
            return image

    def thumbnail(self, longest: int) -> tuple[np.ndarray, float]:
        """The whole slide, (h, w, 3) uint8 with no side above `longest`, and its downsample (at least 1).

        What is broken is grey.
        """
        width, height = self.dimensions
        downsample = max(1.0, max(width, height) / longest)
        size = max(1, int(width / downsample)), max(1, int(height / downsample))
        return self.read_readable(0, 0, *size, downsample)[0], downsample


def resampled(pixels: np.ndarray, w: int, h: int, factor: float) -> np.ndarray:
    """A level's pixels as (h, w, 3), each the mean of the area that it covers; a copy where `factor` is 1."""
    if factor == 1.0:
        return pixels.copy()
    return np.asarray(cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA))


def on_white(image: Image.Image) -> np.ndarray:
    """RGBA as (h, w, 3) uint8 on a white ground."""
    pixels = np.asarray(image)
    alpha = pixels[:, :, 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(pixels[:, :, :3])
    share = alpha.astype(np.float32) / 255
    return np.rint(pixels[:, :, :3] * share + 255 * (1 - share)).astype(np.uint8)


def open_slide(slide: Slide, patches: Patches | None = None, max_megapixels: float = MAX_MEGAPIXELS) -> OpenedSlide:
    """Open a slide or an ordinary image.

    Args:
        slide: the row of the sheet; its `mpp` counts where the file has none.
        patches: the resolution that patches are asked at; sets `level` and `downsample` of the result. None: level 0.
        max_megapixels: that an image which is decoded as a whole may have, where `patches` does not say it.

    Raises:
        UnreadableSlide: the file is not there, broken, or of no format that can be read.
        UserError: it has no resolution and one is needed, or not the one asked for.
    """
    opened = OpenedSlide(slide, max_megapixels if patches is None else patches.max_megapixels)
    try:
        if patches is not None:
            opened.level, opened.downsample = patch_level(opened, patches)
    except UserError:
        opened.close()
        raise
    return opened


def patch_level(opened: OpenedSlide, patches: Patches) -> tuple[int, float]:
    """Level that patches are read from, and their downsample."""
    if patches.level is not None:
        count = len(opened.level_downsamples)
        if patches.level >= count:
            raise UserError(
                f"{named(opened.slide)}: there is no level {patches.level}, its levels are 0 to {count - 1}; set a"
                " lower patches.level, or patches.mpp"
            )
        return patches.level, opened.level_downsamples[patches.level]
    assert patches.mpp is not None
    if opened.mpp is None:
        impossible = opened.file_mpp and f"says {opened.file_mpp[0]:g} µm/px, which no microscope has,"
        said = impossible or "carries no mpp"
        raise UserError(
            f"{named(opened.slide)}: no resolution. The file {said} and the sheet gives none. Give its micrometres per"
            ' pixel in the column "mpp", or those of all slides as slides.mpp, or set patches.level, not patches.mpp'
        )
    downsample = patches.mpp / opened.mpp
    if downsample < 1 - TOLERANCE:
        raise UserError(
            f"{named(opened.slide)}: has {opened.mpp:g} µm/px, patches.mpp asks for the finer {patches.mpp:g}, which is"
            f" not in it; set patches.mpp to {opened.mpp:g} or more, or take the slide out of the sheet"
        )
    level, factor = opened.level_for(downsample)
    return level, opened.level_downsamples[level] * factor


def bounds_of(handle: openslide.AbstractSlide) -> Area | None:
    """What of a slide's canvas was scanned, None for all of it."""
    names = (
        openslide.PROPERTY_NAME_BOUNDS_X,
        openslide.PROPERTY_NAME_BOUNDS_Y,
        openslide.PROPERTY_NAME_BOUNDS_WIDTH,
        openslide.PROPERTY_NAME_BOUNDS_HEIGHT,
    )
    if not all(name in handle.properties for name in names):
        return None
    x, y, w, h = (int(handle.properties[name]) for name in names)
    return None if (x, y, w, h) == (0, 0, *handle.dimensions) else (x, y, w, h)


def is_microscopes(mpp: float) -> bool:
    """Whether a microscope may have this resolution."""
    return FINEST <= mpp <= COARSEST


def same(a: float, b: float) -> bool:
    """Whether two resolutions are the same within the tolerance."""
    return abs(a / b - 1) <= TOLERANCE
