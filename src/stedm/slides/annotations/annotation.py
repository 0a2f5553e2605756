"""What is annotated on a slide, painted as labels into any window of it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from stedm.config import IGNORE_INDEX

REGION, IGNORE = -1, -2
"""What a shape stands for, where it is no class."""
CROSSINGS = 2**22
"""Of outlines with rows of pixels, that are computed at a time."""
PICTURE = 2048
NUDGE = 1e-6, 1.618e-6
"""Level-0 pixels right and down, along no edge that anybody annotates."""


@dataclass(frozen=True)
class Shape:
    """A polygon, and the label of its class, or `REGION`, or `IGNORE`."""

    polygon: Polygon
    label: int


class Annotation(ABC):
    """What is annotated on a slide.

    Attributes:
        format: of the file: "geojson", "coco", "asap", "aperio" or "mask".
        notes: what the user should know, though it stops nothing.
    """

    format: str
    notes: list[str]

    @abstractmethod
    def rasterise(self, x0: float, y0: float, w: int, h: int, downsample: float) -> np.ndarray:
        """Labels, (h, w) uint8, of the window with upper left x0, y0; 255 where nothing is annotated."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float, float, float] | None:
        """Left, upper, right, lower edge of what is annotated; None where nothing is."""

    @property
    @abstractmethod
    def area(self) -> float:
        """Annotated area in level-0 pixels."""

    @property
    @abstractmethod
    def present(self) -> set[int]:
        """Labels that its pixels have."""


class PolygonAnnotation(Annotation):
    """Shapes in the order they are painted: later ones over earlier ones, ignored ones over all.

    With regions, they are the annotated area, and `fill` is the label of the area that no class covers (255: none).
    Without, the classes' own shapes are the area. `seen` says which shapes label a pixel (None: all).
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        fill: int = IGNORE_INDEX,
        format: str = "geojson",
        notes: Sequence[str] = (),
        seen: Sequence[bool] | None = None,
    ):
        self.format = format
        self.notes = list(notes)
        self.fill = fill
        self.shapes = list(shapes)
        self.seen = [True] * len(shapes) if seen is None else list(seen)
        self.has_regions = any(item.label == REGION for item in shapes)
        polygons = np.array([item.polygon for item in shapes], object)
        self._tree = shapely.STRtree(polygons)

    def rasterise(self, x0: float, y0: float, w: int, h: int, downsample: float) -> np.ndarray:
        window = shapely.box(x0, y0, x0 + w * downsample, y0 + h * downsample)
        near = [self.shapes[index] for index in sorted(self._tree.query(window))]
        labels = np.full((h, w), IGNORE_INDEX, np.uint8)
        region = np.zeros((h, w), np.uint8)
        for item in near:
            if item.label == REGION:
                paint(region, item.polygon, 1, x0, y0, downsample)
        labels[region > 0] = self.fill
        for item in near:
            if item.label >= 0:
                paint(labels, item.polygon, item.label, x0, y0, downsample)
        if self.has_regions:
            labels[region == 0] = IGNORE_INDEX
        for item in near:
            if item.label == IGNORE:
                paint(labels, item.polygon, IGNORE_INDEX, x0, y0, downsample)
        return labels

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """Of the shapes that are the annotated area, whatever is ignored in it."""
        regions, classes = (self._box(*kinds) for kinds in ((REGION, REGION), (0, IGNORE_INDEX)))
        filled = self.fill != IGNORE_INDEX
        box = classes if not self.has_regions else regions if filled else shapely.intersection(regions, classes)
        return None if box.is_empty else box.bounds

    def _box(self, lowest: int, highest: int) -> BaseGeometry:
        """Around the shapes with these labels."""
        polygons = [item.polygon for item in self.shapes if lowest <= item.label <= highest]
        return shapely.box(*shapely.total_bounds(polygons)) if polygons else Polygon()

    @property
    def area(self) -> float:
        """As a picture with at most `PICTURE` pixels along its longer side shows it: shapes may lie over each other in
        any number, and uniting them may take minutes."""
        labels, downsample = self._picture
        return float((labels != IGNORE_INDEX).sum()) * downsample**2

    @cached_property
    def _picture(self) -> tuple[np.ndarray, float]:
        """The labels of all that is annotated, and level-0 pixels per pixel."""
        left, upper, right, lower = self.bounds or (0, 0, 0, 0)
        x0, y0 = np.floor([left, upper])
        downsample = max(1.0, (right - x0) / PICTURE, (lower - y0) / PICTURE)
        width, height = np.ceil(np.array([right - x0, lower - y0]) / downsample).astype(int)
        return self.rasterise(x0, y0, width, height, downsample), downsample

    @property
    def present(self) -> set[int]:
        found = {item.label for item, seen in zip(self.shapes, self.seen, strict=True) if seen and item.label >= 0}
        if self.has_regions and self.fill != IGNORE_INDEX and self.fill not in found:
            found |= {self.fill} if (self._picture[0] == self.fill).any() else set()
        return found


class MaskAnnotation(Annotation):
    """Labels as an image, (h, w) uint8, each pixel of which covers `scale` level-0 pixels along each side; `corner` is
    level-0 x, y of its upper left."""

    def __init__(self, labels: np.ndarray, scale: float, notes: Sequence[str] = (), corner: tuple[int, int] = (0, 0)):
        self.format = "mask"
        self.notes = list(notes)
        self.labels = labels
        self.scale = scale
        self.corner = corner

    def rasterise(self, x0: float, y0: float, w: int, h: int, downsample: float) -> np.ndarray:
        x0, y0 = x0 - self.corner[0], y0 - self.corner[1]
        columns = np.floor((x0 + (np.arange(w) + 0.5) * downsample) / self.scale).astype(int)
        rows = np.floor((y0 + (np.arange(h) + 0.5) * downsample) / self.scale).astype(int)
        height, width = self.labels.shape
        found = self.labels[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
        beyond = ((rows < 0) | (rows >= height))[:, None] | ((columns < 0) | (columns >= width))
        return np.where(beyond, IGNORE_INDEX, found).astype(np.uint8)

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        annotated = self.labels != IGNORE_INDEX
        if not annotated.any():
            return None
        columns, rows = np.flatnonzero(annotated.any(0)), np.flatnonzero(annotated.any(1))
        left, upper, right, lower = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        x, y = self.corner
        return (
            float(x + left * self.scale),
            float(y + upper * self.scale),
            float(x + right * self.scale),
            float(y + lower * self.scale),
        )

    @property
    def area(self) -> float:
        return float((self.labels != IGNORE_INDEX).sum()) * self.scale**2

    @property
    def present(self) -> set[int]:
        return set(np.unique(self.labels).tolist()) - {IGNORE_INDEX}


def paint(canvas: np.ndarray, polygon: Polygon, value: int, x0: float, y0: float, downsample: float) -> None:
    """Set the pixels whose centres lie in a polygon.

    Centres on the outline belong to the shape on their right or below, so that neighbours leave no gap and do not
    overlap.

    Args:
        canvas: (h, w) uint8, changed in place; its upper left is at x0, y0.
        polygon: valid, in level-0 pixels.
        value: to set.
        x0: level-0 pixels.
        y0: level-0 pixels.
        downsample: level-0 pixels per pixel of the canvas.
    """
    left, upper, right, lower = (np.array(polygon.bounds) - (x0, y0, x0, y0)) / downsample
    columns = slice(max(0, int(left)), max(0, min(canvas.shape[1], int(right) + 1)))
    rows = slice(max(0, int(upper)), max(0, min(canvas.shape[0], int(lower) + 1)))
    part = canvas[rows, columns]
    if not part.size:
        return
    corner = np.add((x0, y0), NUDGE) + np.multiply((columns.start, rows.start), downsample)
    rings = [np.asarray(ring.coords)[:, :2] for ring in (polygon.exterior, *polygon.interiors)]
    part[inside([(ring - corner) / downsample - 0.5 for ring in rings], *part.shape)] = value


def inside(rings: Sequence[np.ndarray], h: int, w: int) -> np.ndarray:
    """(h, w) bool: pixels inside of closed outlines (n, 2), x, y in pixels whose centres are whole numbers.

    In each row, every crossing of an outline turns outside into inside, or back, from there to the right.
    """
    start, end = (np.concatenate([ring[cut] for ring in rings]) for cut in (slice(-1), slice(1, None)))
    (x, y), (dx, dy) = start.T, (end - start).T
    first, last = (
        np.clip(np.ceil(side), 0, h).astype(int) for side in (np.minimum(y, end[:, 1]), np.maximum(y, end[:, 1]))
    )
    crossed = last - first
    turns = np.zeros(h * (w + 1), np.uint8)
    block = np.cumsum(crossed) // CROSSINGS
    for number in range(block[-1] + 1):
        some = np.flatnonzero((block == number) & (crossed > 0))
        count = crossed[some]
        row = np.arange(count.sum()) + np.repeat(first[some] - np.cumsum(count) + count, count)
        slope = dx[some] / dy[some]
        at = np.repeat(x[some], count) + (row - np.repeat(y[some], count)) * np.repeat(slope, count)
        column = np.ceil(at).clip(0, w).astype(int)
        turns ^= (np.bincount(row * (w + 1) + column, minlength=len(turns)) & 1).astype(np.uint8)
    return np.cumsum(turns.reshape(h, w + 1)[:, :w], axis=1, dtype=np.uint8) & 1 > 0
