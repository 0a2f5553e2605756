"""Patches of a slide on a grid: where there is tissue, with labels, streamed into a patch file."""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from stedm import __version__
from stedm.config import IGNORE_INDEX, Patches, PatchesOptions
from stedm.errors import UserError
from stedm.files import file_fingerprint
from stedm.sheet import Slide, coords_file, tissue_file
from stedm.slides.annotations import Annotation, read_annotation
from stedm.slides.coords import read_coords
from stedm.slides.open import OpenedSlide, UnreadableSlide, named, open_slide
from stedm.slides.overview import plot_message, plot_overview
from stedm.slides.tissue import TissueMask, tissue_mask
from stedm.store import Patch, PatchFile, write_patches

STRIP = 8_192
"""Pixels of the level. A row of tiles is kept while the patches above and below it are read: narrow strips, less
memory; wide ones, fewer tiles that are needed by two."""
MOST_PATCHES = 2**24
"""Of a grid: 64 px of a slide of 260,000 px along each side."""
BATCH_PIXELS = 2**20
"""Of the patches that a thread reads at a time."""

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


def extract_patches(options: PatchesOptions, slide: Slide, *, out: Path, overview: Path, threads: int = 1) -> int:
    """Write a slide's patch file and its overview.

    The file's attributes `status` and `problem` say what became of the slide: "ok"; "incomplete", patches on broken
    tiles are left out and counted; "no tissue"; "quarantined", it cannot be read. The last two have no patches.

    Args:
        options: classes, in the order of their labels; how annotation files are read; size, resolution and tissue.
        slide: the row of the sheet.
        out: the patch file, see `stedm.store`.
        overview: PNG of the slide with tissue, grid and annotation.
        threads: that decode; the file is the same for any number.

    Returns:
        Number of patches.

    Raises:
        UserError: the configuration or the annotation does not fit the slide.
    """
    attributes = slide_attributes(options, slide)
    try:
        attributes["source_fingerprint"] = source_fingerprint(slide)
        return extract_readable(options, slide, attributes, out, overview, threads)
    except UnreadableSlide as error:
        log.warning("%s: quarantined: %s", slide.slide, error)
        attributes |= {"status": "quarantined", "problem": str(error)}
        plot_message(overview, "quarantined: cannot be read; check.csv or the log says why")
        return write_patches(out, [], options.patches.size, options.class_names, attributes)


def extract_readable(
    options: PatchesOptions, slide: Slide, attributes: dict[str, Any], out: Path, overview: Path, threads: int
) -> int:
    """As `extract_patches`, of a slide that can be read."""
    patches = options.patches
    with open_slide(slide, patches) as opened:
        annotation = None
        if slide.annotation is not None:
            annotation = read_annotation(
                slide.annotation,
                options.classes,
                options.annotations,
                opened.dimensions,
                slide.path.name,
                opened.bounds,
                opened.downsample,
                patches.max_megapixels,
            )
        tissue = tissue_mask(opened, patches.tissue, tissue_file(slide.slide, patches))
        corners, shares = places(opened, patches, tissue)
        if not len(corners):
            message = f"no patch has {patches.min_tissue:.0%} of tissue; lower patches.min_tissue or patches.size"
            if patches.coords is not None:
                message = f"{coords_file(slide.slide, patches)} has no patch on the slide"
            attributes |= {"status": "no tissue", "problem": message}
            log.warning("%s: %s", slide.slide, message)
        opened.choose_reader(corners, patches.size)
        known = attributes | opened_attributes(opened)
        count = write_patches(
            out,
            read_patches(opened, annotation, corners, shares, patches.size, threads),
            patches.size,
            options.class_names,
            lambda count: known | outcome(slide, len(corners), count),
            coords_attributes(opened, patches, out),
            patches.jpeg_quality if patches.storage == "jpeg" else None,
        )
        plot_overview(overview, opened, patches, tissue, annotation, options.classes, PatchFile(out).coords)
    log.info("%s: %d patches", slide.slide, count)
    return count


def places(opened: OpenedSlide, patches: Patches, tissue: TissueMask) -> tuple[np.ndarray, np.ndarray]:
    """Upper left corners (N, 2) of the patches, and their shares of tissue (N,): all of those that the user brings, or
    those of our grid that have enough tissue."""
    side = patches.size * opened.downsample
    brought = coords_file(opened.slide.slide, patches)
    if brought is not None:
        corners = read_coords(brought, opened.dimensions, side)
        return corners, tissue.fractions(corners, side)
    corners = grid(opened, patches)
    shares = tissue.fractions(corners, side)
    kept = shares >= patches.min_tissue
    return corners[kept], shares[kept]


def grid(opened: OpenedSlide, patches: Patches) -> np.ndarray:
    """Upper left corners (N, 2) int64 x, y in level-0 pixels, row by row, of all patches that fit into the slide.

    Raises:
        UserError: they are more than any slide has.
    """
    axes = []
    for side in opened.dimensions:
        pixels = side / opened.downsample
        count = int((pixels - patches.size + 0.5) // (patches.size - patches.overlap)) + 1
        starts = np.arange(max(count, 0)) * (patches.size - patches.overlap) * opened.downsample
        axes.append(np.rint(starts).astype(np.int64))
    if (count := len(axes[0]) * len(axes[1])) > MOST_PATCHES:
        raise UserError(
            f"{named(opened.slide)}: {count:,} patches of {patches.size} px would cover its {opened.dimensions[0]} ×"
            f" {opened.dimensions[1]} px; set a larger patches.size or a coarser patches.mpp"
        )
    x, y = np.meshgrid(*axes)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def read_patches(
    opened: OpenedSlide,
    annotation: Annotation | None,
    corners: np.ndarray,
    shares: np.ndarray,
    size: int,
    threads: int = 1,
) -> Iterator[Patch]:
    """The patches, in the order of reading.

    Patches on broken tiles are left out.
    """
    opened.announce(corners, size)
    batches = in_batches(opened, corners, size)
    images = in_order(lambda batch: opened.read_patches(corners[batch], size), batches, threads)
    with tqdm(total=len(corners), desc=opened.slide.slide, disable=None, leave=False) as progress:
        for batch, batch_images in zip(batches, images, strict=True):
            for index, image in zip(batch.tolist(), batch_images, strict=True):
                if image is None:
                    continue
                x, y = corners[index].tolist()
                labels = None
                if annotation is not None:
                    labels = annotation.rasterise(x, y, size, size, opened.downsample)
                    if (labels == IGNORE_INDEX).all():
                        labels = None
                yield Patch(image, labels, (x, y), float(shares[index]))
            progress.update(len(batch))


def in_batches(opened: OpenedSlide, corners: np.ndarray, size: int) -> list[np.ndarray]:
    """Numbers of the patches (N, 2) corners in the order of reading: row by row, in strips from left to right."""
    strips = corners[:, 0] // (STRIP * opened.level_downsamples[opened.level])
    order = np.lexsort((corners[:, 0], corners[:, 1], strips))
    length = max(1, BATCH_PIXELS // size**2)
    return [order[start : start + length] for start in range(0, len(order), length)]


def in_order(
    read: Callable[[Item], Iterator[Result]], items: Sequence[Item], threads: int
) -> Iterator[Iterable[Result]]:
    """What `read` gives for each item, in the order of the items; `threads` work on the next ones meanwhile."""
    if threads == 1:
        yield from map(read, items)
        return

    def read_all(item: Item) -> list[Result]:
        return list(read(item))

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[list[Result]]] = deque()
        for item in items:
            waiting.append(pool.submit(read_all, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def outcome(slide: Slide, asked: int, count: int) -> dict[str, str]:
    """Attributes that say how many of the patches asked for are missing, if any are.

    Raises:
        UnreadableSlide: all of them.
    """
    if count == asked:
        return {}
    problem = f"{asked - count:,} of {asked:,} patches dropped: broken tiles"
    log.warning("%s: %s", slide.slide, problem)
    if not count:
        raise UnreadableSlide(f"{named(slide)}: {problem}; copy it again from its source, or take it out of the sheet")
    return {"status": "incomplete", "problem": problem}


def slide_attributes(options: PatchesOptions, slide: Slide) -> dict[str, Any]:
    """Attributes of a patch file that are known before the slide is opened."""
    return {
        "slide": slide.slide,
        "patient": slide.patient,
        "group": slide.group,
        "split": slide.split,
        "status": "ok",
        "problem": "",
        "source_fingerprint": "",
        "options": json.dumps(options.model_dump(), sort_keys=True),
        "software": f"stedm {__version__}",
    }


def source_fingerprint(slide: Slide) -> str:
    """Fingerprint of the slide's file, "" where there is none.

    Raises:
        UnreadableSlide: it may not be read, or the disk fails.
    """
    try:
        return file_fingerprint(slide.path) if slide.path.is_file() else ""
    except OSError as error:
        raise UnreadableSlide(
            f"{named(slide)}: cannot be read ({error}); fix its permissions, copy it again from its source, or take it"
            " out of the sheet"
        ) from error


def opened_attributes(opened: OpenedSlide) -> dict[str, Any]:
    """Attributes that the open slide tells; a resolution that is not known is NaN."""
    return {
        "mpp": np.nan if opened.patch_mpp is None else opened.patch_mpp,
        "level0_mpp": np.nan if opened.mpp is None else opened.mpp,
        "mpp_source": opened.mpp_source,
        "level": opened.level,
        "downsample": opened.downsample,
        "level0_width": opened.dimensions[0],
        "level0_height": opened.dimensions[1],
        "reader": opened.reader,
        "notes": "\n".join(opened.notes),
    }


def coords_attributes(opened: OpenedSlide, patches: Patches, out: Path) -> dict[str, Any]:
    """Attributes of `coords` by the names of CLAM and TRIDENT.

    `patch_size` pixels are read at `patch_level`; where no level has the resolution asked for, `custom_downsample` × as
    many, area-resampled, as in CLAM. Magnifications are 10 µm / mpp, as in TRIDENT.
    """
    level_size = opened.level_dimensions[opened.level]
    factor = opened.downsample / opened.level_downsamples[opened.level]
    attributes: dict[str, Any] = {
        "description": "(x, y) of the upper left corner at level 0",
        "patch_size": patches.size,
        "patch_level": opened.level,
        "patch_size_level0": round(patches.size * opened.downsample),
        "overlap": patches.overlap,
        "downsample": (opened.level_downsamples[opened.level],) * 2,
        "custom_downsample": factor,
        "level_dim": level_size,
        "downsampled_level_dim": tuple(int(side / factor) for side in level_size),
        "level0_width": opened.dimensions[0],
        "level0_height": opened.dimensions[1],
        "name": opened.slide.slide,
        "savetodir": str(out.parent),
        "save_path": str(out.parent),
    }
    if opened.mpp is not None:
        attributes["level0_magnification"] = 10 / opened.mpp
        attributes["target_magnification"] = 10 / (opened.mpp * opened.downsample)
    return attributes
