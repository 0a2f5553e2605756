"""A picture of a slide: tissue outline, patches and annotation, to look at."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from stedm.config import IGNORE_INDEX, Patches, TissueClass
from stedm.files import written_whole
from stedm.slides.annotations import Annotation
from stedm.slides.open import OpenedSlide
from stedm.slides.tissue import TissueMask

LONGEST = 1100
"""Pixels of the thumbnail's longer side."""
DPI = 150
NO_VERSION: dict[str, str | None] = {"Software": None}
"""The same picture is the same file, whatever the version of matplotlib."""
FAST = {"compress_level": 3}
PICTURE = "Picture"
"""Text in the PNG that says where in it the slide is, without title and legend: left, upper, right, lower pixel."""
TINT = 0.3
TISSUE = "#007a33"
GRID = "#1a1a1a"


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
    thumbnail, downsample = opened.thumbnail(LONGEST)
    height, width = thumbnail.shape[:2]
    labels = None if annotation is None else annotation.rasterise(0, 0, width, height, downsample)
    axes = canvas(width, height)
    picture = thumbnail if labels is None else tinted(thumbnail, labels, classes)
    opaque = np.full((height, width), 255, np.uint8)
    axes.imshow(np.dstack([picture, opaque]), interpolation="none")  # with alpha matplotlib takes 30 MB less
    handles: list[Artist] = []
    if labels is not None:
        handles += plot_classes(axes, labels, classes)
    if patches.tissue is not None:
        handles.append(plot_tissue(axes, tissue, downsample))
    handles.append(plot_grid(axes, corners, patches.size * opened.downsample, downsample))
    if opened.mpp is not None:
        plot_scale_bar(axes, width, height, opened.mpp * downsample)
    unit = f"level {opened.level}, no scale" if opened.patch_mpp is None else f"{opened.patch_mpp:.4g} µm/px"
    count = f"{len(corners):,} patch" + ("" if len(corners) == 1 else "es")
    axes.set_title(f"{count} of {patches.size} px at {unit}", fontsize=9)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7, frameon=False)
    save(path, axes)


def plot_message(path: Path, text: str) -> None:
    """A picture that says why there is none."""
    axes = canvas(900, 300)
    axes.text(450, 150, text, ha="center", va="center", fontsize=9)
    axes.set(xlim=(0, 900), ylim=(300, 0), xticks=[], yticks=[])
    save(path, axes)


def canvas(width: int, height: int) -> Axes:
    """Axes of a figure in which a picture of this size has about one pixel for each of its own."""
    shorter = 3 * DPI
    figure = Figure(figsize=(max(width, shorter) / DPI, max(height, shorter) / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return axes


def save(path: Path, axes: Axes) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox().padded(0.1)
    left, upper = -box.x0, box.y1 - height
    edges = [round(edge * DPI) for edge in (left, upper, left + width, upper + height)]
    metadata = NO_VERSION | {PICTURE: " ".join(map(str, edges))}
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", bbox_inches=box, metadata=metadata, pil_kwargs=FAST)


def tinted(image: np.ndarray, labels: np.ndarray, classes: Sequence[TissueClass]) -> np.ndarray:
    """(h, w, 3) uint8 with annotated pixels tinted in their class's colour."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(classes)] = [np.rint(np.multiply(to_rgb(item.color), 255)) for item in classes]
    mixed = cv2.addWeighted(image, 1 - TINT, colours[labels], TINT, 0)
    return np.where((labels == IGNORE_INDEX)[:, :, None], image, mixed)


def plot_classes(axes: Axes, labels: np.ndarray, classes: Sequence[TissueClass]) -> list[Patch]:
    """Outlines of the classes, and their entries of the legend."""
    handles = []
    for label, item in enumerate(classes):
        outlines = contours(labels == label, 1.0)
        if outlines:
            axes.add_collection(LineCollection(outlines, colors=item.color, linewidths=0.9))
            share = (labels == label).sum() / (labels != IGNORE_INDEX).sum()
            handles.append(
                Patch(
                    facecolor=(item.color, TINT), edgecolor=item.color, label=f"{item.name} ({share:.0%} of annotated)"
                )
            )
    if not handles:
        handles.append(Patch(facecolor="none", edgecolor="none", label="nothing annotated"))
    return handles


def plot_tissue(axes: Axes, tissue: TissueMask, downsample: float) -> Line2D:
    mask, scale = tissue.mask, tissue.downsample / downsample
    if scale < 1:  # finer than the picture
        mask = cv2.resize(mask.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST) > 0
        scale = 1.0
    outlines = contours(mask, scale)
    axes.add_collection(LineCollection(outlines, colors=TISSUE, linewidths=1.2))
    return Line2D([], [], color=TISSUE, linewidth=1.2, label=f"tissue ({tissue.share:.0%} of the slide)")


def plot_grid(axes: Axes, corners: np.ndarray, side: float, downsample: float) -> Line2D:
    """Patches as squares, in lines thin enough to see what is under them."""
    shown = side / downsample
    squares = [Rectangle((x - 0.5, y - 0.5), shown, shown) for x, y in corners / downsample]
    width = float(np.clip(shown / 60, 0.15, 0.6))
    axes.add_collection(PatchCollection(squares, facecolor="none", edgecolor=GRID, linewidth=width, alpha=0.8))
    return Line2D([], [], color=GRID, marker="s", markerfacecolor="none", linestyle="none", label="patch")


def contours(mask: np.ndarray, scale: float) -> list[np.ndarray]:
    """Closed outlines of a mask along its pixels' edges, each (n, 2) x, y in pixels `1/scale` as large.

    Plotted on a mask twice as large, so that outlines lie on the edge and not on the middle of the outer pixels.
    """
    twice = cv2.copyMakeBorder(
        mask.astype(np.uint8).repeat(2, 0).repeat(2, 1), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
    )
    found, _ = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [np.vstack([item[:, 0], item[:1, 0]]) * (scale / 2) - 0.25 * scale - 0.5 for item in found]


def plot_scale_bar(axes: Axes, width: int, height: int, mpp: float) -> None:
    """A bar of a round length, about a fifth of the width, in the lower right corner."""
    most = width / 5 * mpp
    power = 10 ** np.floor(np.log10(most))
    length = max(step * power for step in (1, 2, 5) if step * power <= most)
    bar, thick, margin = length / mpp, max(2, height / 160), height / 50
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    left, top = width - margin - bar, height - margin - thick
    box = (left - margin / 2, top - 2.4 * margin), bar + margin, 2.4 * margin + 2 * thick
    axes.add_patch(Rectangle(*box, color="white", alpha=0.85, zorder=3))  # above the outlines
    axes.add_patch(Rectangle((left, top), bar, thick, color="black", zorder=4))
    axes.text(left + bar / 2, top - margin / 3, text, ha="center", va="bottom", fontsize=8, zorder=4)
