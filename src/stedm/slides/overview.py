"""A picture of a slide: tissue outline, patches and annotation, to look at.

Plotted with OpenCV and Pillow: matplotlib takes three times as long for it as cutting a small image into patches.
"""

import zlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from stedm.config import IGNORE_INDEX, Patches, TissueClass
from stedm.files import written_whole
from stedm.slides.annotations import Annotation
from stedm.slides.open import OpenedSlide
from stedm.slides.tissue import TissueMask

LONGEST = 1100
"""Pixels of the thumbnail's longer side."""
SHORTEST = 450
"""A smaller thumbnail is enlarged, by a whole number."""
MARGIN, TITLE, LINE, SWATCH = 15, 27, 22, 30
"""Pixels: around everything, height of the title, of a line of the legend, and width of the colours in it."""
LARGE, SMALL = 19, 15
"""Pixels of the fonts."""
PICTURE = "Picture"
"""Text in the PNG that says where in it the slide is, without title and legend: left, upper, right, lower pixel."""
FAST = {"compress_level": 1, "compress_type": zlib.Z_RLE}
"""PNG of about the usual size in 60% of the time."""
TINT = 0.3
FRACTION = 4
"""Bits of a pixel that lines are placed by."""
Colour = tuple[int, ...]
TISSUE, GRID, WHITE, BLACK = (0, 122, 51), (26, 26, 26), (255, 255, 255), (0, 0, 0)


class Entry(NamedTuple):
    """A line of the legend; the size of its swatch is in pixels."""

    text: str
    colour: Colour
    size: tuple[int, int]
    fill: Colour | None = None


def plot_overview(
    path: Path,
    opened: OpenedSlide,
    patches: Patches,
    tissue: TissueMask,
    annotation: Annotation | None,
    classes: Sequence[TissueClass],
    corners: np.ndarray,
) -> None:
    """Plot a slide's overview as PNG; the slide's name is in the file's name alone.

    Args:
        path: the picture.
        opened: the slide.
        patches: size and resolution of the patches.
        tissue: its tissue.
        annotation: its annotation, if any.
        classes: names and colours.
        corners: (N, 2) level-0 x, y of the patches' upper left corners.
    """
    picture, downsample = opened.thumbnail(LONGEST)
    height, width = picture.shape[:2]
    labels = None if annotation is None else annotation.rasterise(0, 0, width, height, downsample)
    if labels is not None:
        picture = tinted(picture, labels, classes)
    zoom = max(1, SHORTEST // max(width, height))
    picture = np.ascontiguousarray(picture.repeat(zoom, 0).repeat(zoom, 1))
    scale = downsample / zoom
    plot_grid(picture, corners / scale, patches.size * opened.downsample / scale)
    legend = [] if labels is None else plot_classes(picture, labels, classes, zoom)
    if patches.tissue is not None:
        plot_outlines(picture, tissue.mask, tissue.downsample / scale, TISSUE, 2)
        legend.append(Entry(f"tissue ({tissue.share:.0%} of the slide)", TISSUE, (SWATCH, 2), TISSUE))
    legend.append(Entry("patch", GRID, (11, 11)))
    unit = f"level {opened.level}, no scale" if opened.patch_mpp is None else f"{opened.patch_mpp:.4g} µm/px"
    count = f"{len(corners):,} patch" + ("" if len(corners) == 1 else "es")
    image = Image.fromarray(picture)
    if opened.mpp is not None:
        plot_scale_bar(image, opened.mpp * scale)
    write_picture(path, image, f"{count} of {patches.size} px at {unit}", legend)


def plot_message(path: Path, text: str) -> None:
    """A picture that says why there is none."""
    image = Image.new("RGB", (900, 300), WHITE)
    write(image, (450, 150), text, LARGE, "mm")
    write_picture(path, image, "", [])


def write_picture(path: Path, picture: Image.Image, title: str, legend: Sequence[Entry]) -> None:
    """Write a picture with its title above it and its legend beside it."""
    left, upper = MARGIN, MARGIN + TITLE
    beside = left + picture.width + MARGIN
    texts = [beside + SWATCH + 10 + font(SMALL).getlength(entry.text) for entry in legend]
    right = max(left + picture.width, left + font(LARGE).getlength(title), *texts, 0)
    lower = upper + max(picture.height, LINE * len(legend))
    page = Image.new("RGB", (round(right) + MARGIN, lower + MARGIN), WHITE)
    page.paste(picture, (left, upper))
    write(page, (left, MARGIN), title, LARGE, "la")
    for number, entry in enumerate(legend):
        middle = upper + LINE * number + LINE // 2
        width, height = entry.size
        x, y = beside + (SWATCH - width) // 2, middle - height // 2
        outline = 2 if entry.fill is not None else 1
        ImageDraw.Draw(page).rectangle((x, y, x + width, y + height), entry.fill, entry.colour, outline)
        write(page, (beside + SWATCH + 10, middle), entry.text, SMALL, "lm")
    where = PngImagePlugin.PngInfo()
    where.add_text(PICTURE, f"{left} {upper} {left + picture.width} {upper + picture.height}")
    with written_whole(path) as temporary:
        page.save(temporary, "PNG", pnginfo=where, **FAST)


def write(
    image: Image.Image,
    position: tuple[float, float],
    text: str,
    size: int,
    anchor: str,
    colour: Colour = BLACK,
    bold: bool = False,
) -> None:
    """Write a text on an image; Pillow explains the anchors."""
    ImageDraw.Draw(image).text(position, text, colour, font(size, bold), anchor)


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which ships with matplotlib: the same everywhere."""
    found = find_spec("matplotlib")
    assert found is not None and found.origin is not None
    file = Path(found.origin).with_name("mpl-data") / f"fonts/ttf/DejaVuSans{'-Bold' * bold}.ttf"
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def tinted(image: np.ndarray, labels: np.ndarray, classes: Sequence[TissueClass]) -> np.ndarray:
    """(h, w, 3) uint8 with annotated pixels tinted in their class's colour."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(classes)] = [item.rgb for item in classes]
    mixed = cv2.addWeighted(image, 1 - TINT, colours[labels], TINT, 0)
    cv2.copyTo(image, (labels == IGNORE_INDEX).astype(np.uint8), mixed)
    return mixed


def plot_classes(picture: np.ndarray, labels: np.ndarray, classes: Sequence[TissueClass], zoom: int) -> list[Entry]:
    """Outlines of the classes on a picture `zoom` times as large as the labels, and their entries of the legend."""
    annotated = np.count_nonzero(labels != IGNORE_INDEX)
    entries = []
    for label, item in enumerate(classes):
        mask = labels == label
        if mask.any():
            plot_outlines(picture, mask, zoom, item.rgb, 1)
            fill = tuple(round(255 + TINT * (value - 255)) for value in item.rgb)
            share = mask.sum() / annotated
            entries.append(Entry(f"{item.name} ({share:.0%} of annotated)", item.rgb, (SWATCH, 10), fill))
    return entries or [Entry("nothing annotated", WHITE, (SWATCH, 10))]


def plot_grid(picture: np.ndarray, corners: np.ndarray, side: float) -> None:
    """Patches as squares, in lines thin enough to see what is under them; in pixels of the picture."""
    layer = picture.copy()
    for x, y in np.rint(corners).astype(int).tolist():
        cv2.rectangle(layer, (x, y), (round(x + side), round(y + side)), GRID)
    strength = 0.8 * float(np.clip(side / 30, 0.3, 1))
    cv2.addWeighted(layer, strength, picture, 1 - strength, 0, dst=picture)


def plot_outlines(picture: np.ndarray, mask: np.ndarray, scale: float, colour: Colour, width: int) -> None:
    """Outlines of a mask whose pixels are `scale` pixels of the picture."""
    if scale < 1:
        mask = cv2.resize(mask.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST) > 0
        scale = 1.0
    lines = [np.rint(item * 2**FRACTION).astype(np.int32) for item in contours(mask, scale)]
    cv2.polylines(picture, lines, False, colour, width, cv2.LINE_AA, FRACTION)


def contours(mask: np.ndarray, scale: float) -> list[np.ndarray]:
    """Closed outlines of a mask along its pixels' edges, each (n, 2) x, y in pixels `1/scale` as large.

    Plotted on a mask twice as large, so that outlines lie on the edge and not on the middle of the outer pixels.
    """
    twice = cv2.copyMakeBorder(
        mask.astype(np.uint8).repeat(2, 0).repeat(2, 1), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
    )
    found, _ = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [np.vstack([item[:, 0], item[:1, 0]]) * (scale / 2) - 0.25 * scale - 0.5 for item in found]


def plot_scale_bar(image: Image.Image, mpp: float) -> None:
    """A bar of a round length, about a fifth of the width, in the lower right corner."""
    most = image.width / 5 * mpp
    power = 10 ** np.floor(np.log10(most))
    length = max(step * power for step in (1, 2, 5) if step * power <= most)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    bar, thick, margin = length / mpp, max(2, image.height / 160), max(10, image.height / 50)
    left, top = image.width - margin - bar, image.height - margin - thick
    across = max(bar, font(SMALL).getlength(text)) / 2 + margin / 2
    middle = left + bar / 2
    draw = ImageDraw.Draw(image)
    draw.rectangle((middle - across, top - margin / 2 - SMALL, middle + across, image.height - margin / 2), WHITE)
    draw.rectangle((left, top, left + bar, top + thick), BLACK)
    write(image, (middle, top - margin / 4), text, SMALL, "mb")
