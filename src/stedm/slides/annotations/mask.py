"""Masks: images whose pixels' values stand for classes."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from stedm.config import IGNORE_INDEX, MAX_MEGAPIXELS, Origin, TissueClass, mask_range
from stedm.errors import UserError
from stedm.slides.annotations.annotation import MaskAnnotation
from stedm.slides.annotations.origin import Area
from stedm.slides.tiff import (
    ORIENTATION,
    WrongKind,
    check_tiles,
    known_orientation,
    orientation_of,
    samples,
    single_image,
    upright,
    whole_pages,
)

READING = threading.Lock()
"""Held while a mask is read, which takes ten bytes a pixel; its labels take one."""
FEW_PIXELS = 2**20
"""Whose values are sorted at once."""
LEAST_SCALE = 1.1
"""A mask that differs less in size from its slide is not a smaller copy of it, but wrong."""


def read_mask(
    path: Path,
    classes: Sequence[TissueClass],
    dimensions: tuple[int, int],
    bounds: Area | None = None,
    origin: Origin = "auto",
    max_megapixels: float = MAX_MEGAPIXELS,
) -> MaskAnnotation:
    """Read a mask: grey, palette or instance numbers of 8, 16 or 32 bits; of the size of the slide or of its scanned
    area, or a smaller copy.

    Values that belong to no class are not annotated; they are counted.
    """
    with READING:
        values = read_values(path, 4 * dimensions[0] * dimensions[1], max_megapixels)
        corner, scale = mask_place(path, values.shape, dimensions, bounds, origin)
        labels = np.full(values.shape, IGNORE_INDEX, np.uint8)
        for label, item in enumerate(classes):
            for text in item.mask_values:
                low, high = mask_range(text)
                labels[(values >= low) & (values <= high)] = label
        unknown = values[labels == IGNORE_INDEX]
        del values
    if unknown.size == labels.size:
        raise UserError(
            f"{path}: none of its values ({shown(unknown)}) is a class; give them as `mask_values` of the classes"
        )
    notes = []
    if corner != (0, 0):
        notes.append(f"the mask covers the scanned area, from x {corner[0]}, y {corner[1]}, not the canvas")
    if unknown.size:
        notes.append(
            f"values that belong to no class ({shown(unknown)}): {unknown.size:,} of its pixels"
            f" ({unknown.size / labels.size:.1%}) are not annotated"
        )
    return MaskAnnotation(labels, scale, notes, corner)


def read_values(path: Path, most: int, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Pixels of a mask as they are stored, (h, w) integer; refused before they are decoded where they are too many.

    Args:
        path: PNG or TIFF.
        most: how many values it may have. Damaged files claim billions.
        max_megapixels: how many it may have that is decoded as a whole.
    """
    limits = most, max_megapixels
    try:
        values = read_png(path, *limits) if path.suffix.lower() == ".png" else read_tiff(path, *limits)
    except WrongKind as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # Pillow and tifffile raise half a dozen types for a broken file
        raise UserError(f"{path}: cannot be read as a mask ({error}); export it again") from error
    if values.ndim == 3 and (values.shape[2] == 1 or (values.shape[2] == 3 and (values == values[:, :, :1]).all())):
        values = values[:, :, 0]  # grey saved as colour
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise UserError(
            f"{path}: is not a mask: it has shape {values.shape} and type {values.dtype}; one channel of whole numbers"
            " (grey or palette) is needed"
        )
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def read_png(path: Path, most: int, max_megapixels: float) -> np.ndarray:
    """(h, w) or (h, w, S), upright."""
    with Image.open(path, formats=("PNG",)) as image:
        check_count(image.width * image.height, most, max_megapixels)
        if (count := getattr(image, "n_frames", 1)) > 1:
            raise WrongKind(f"holds {count} images; save the one that is the mask as a file of its own")
        return upright(np.asarray(image), known_orientation(image.getexif().get(ORIENTATION)))


def read_tiff(path: Path, most: int, max_megapixels: float) -> np.ndarray:
    """(h, w) or (h, w, S), upright. Pages must be alike, or levels of a pyramid: which has the labels is not known."""
    with TiffFile(path) as file:
        page, *others = whole_pages(file)
        check_count(page.size, most, max_megapixels)
        check_tiles(page)
        values = page.asarray()
        few = sum(other.size for other in others) <= max_megapixels * 1e6  # to be decoded too
        if not others or not (few and all(alike(values, page, other) for other in others)):
            single_image(file)
        if page.photometric == PHOTOMETRIC.MINISWHITE:
            raise WrongKind("calls 0 white, so that programs disagree on its values; save it with 0 as black")
        return upright(samples(page, values), orientation_of(page))


def alike(values: np.ndarray, page: TiffPage, other: TiffPage) -> bool:
    return other.shape == page.shape and np.array_equal(values, other.asarray())


def check_count(count: int, most: int, max_megapixels: float) -> None:
    if count > most:
        raise ValueError(f"it has {count:,} values, many more than the slide has pixels")
    if count > max_megapixels * 1e6:
        raise WrongKind(
            f"has {count:,} values, too many to decode as a whole; save it smaller, at the resolution of the patches,"
            f" or raise patches.max_megapixels ({max_megapixels:g}), where there are 12 bytes of memory for each"
        )


def mask_place(
    path: Path, size: Sequence[int], dimensions: tuple[int, int], bounds: Area | None = None, origin: Origin = "auto"
) -> tuple[tuple[int, int], float]:
    """Level-0 x, y of a mask's corner, and level-0 pixels per pixel of it.

    Without an `origin` it is the area, canvas or bounds, that tells: the one of the mask's very size, else the one that
    it is a smaller copy of.

    Raises:
        UserError: it is of neither, or may be of both.
    """
    height, width = size
    areas = {"canvas": (0, 0, *dimensions), "bounds": bounds or (0, 0, *dimensions)}
    if origin != "auto":
        areas = {origin: areas[origin]}
    fits = {(x, y): mask_scale((width, height), (w, h)) for x, y, w, h in areas.values()}
    fitting = {corner: scale for corner, scale in fits.items() if scale is not None}
    exact = {corner: scale for corner, scale in fitting.items() if scale == 1}
    shown = " or ".join(f"{w} × {h}" for _, _, w, h in dict.fromkeys(areas.values()))
    if not fitting:
        raise UserError(
            f"{path}: the mask is {width} × {height} px, the slide {shown}; it must have the slide's size, or be a"
            " smaller copy with the same sides' ratio. Is it another slide's mask?"
        )
    if len(exact or fitting) > 1:
        raise UserError(
            f"{path}: the mask is {width} × {height} px, and may cover the canvas or the scanned area ({shown}); set"
            " `origin` to canvas or to bounds"
        )
    return next(iter((exact or fitting).items()))


def mask_scale(size: tuple[int, int], area: tuple[int, int]) -> float | None:
    """Level-0 pixels per pixel of a mask of an area, both (width, height): 1, or whatever downsample gives this size.

    Sides of a smaller copy are cut off or filled up to whole pixels, so each tells the downsample only roughly; where
    a whole number fits both, it is that. None: the mask is no copy of the area.
    """
    if size == area:
        return 1
    sides = list(zip(area, size, strict=True))
    low = max(there / (here + 1) for there, here in sides)
    high = min(there / (here - 1) if here > 1 else np.inf for there, here in sides)
    if min(size) < 1 or low > high or high < LEAST_SCALE:
        return None
    middle = np.mean([there / here for there, here in sides])
    whole = round(middle)
    return whole if low <= whole <= high else float(np.clip(middle, low, high))


def shown(values: np.ndarray) -> str:
    """What values there are, if few, or else their range."""
    found = values[:0]
    for some in np.array_split(values, -(-len(values) // FEW_PIXELS)):
        found = np.union1d(found, some)
        if len(found) > 8:
            return f"{values.min()} to {values.max()}"
    return ", ".join(map(str, found))
