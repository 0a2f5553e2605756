"""Annotations of slides: QuPath's GeoJSON and mask images, as labels at any resolution.

What a file says is brought into one form, either shapes in order (`PolygonAnnotation`) or an image of labels
(`MaskAnnotation`). A pixel has the label that its centre has. Coordinates are level-0 pixels.
"""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
import tifffile
from PIL import Image
from shapely.geometry import Polygon, shape
from shapely.geometry.base import BaseGeometry

from stedm.config import IGNORE_INDEX, Annotations, TissueClass, mask_range
from stedm.errors import UserError

UNCLASSIFIED = "Unclassified"
"""Name of shapes without a class."""
REGION, IGNORE = -1, -2
"""What a shape stands for, where it is no class."""
OUTSIDE = 8, 0.005
"""Shapes may reach beyond the slide by these pixels, or this share of its side: a hand slips."""
SUBPIXEL = 4
"""Bits of OpenCV's fixed-point coordinates."""


@dataclass(frozen=True)
class Shape:
    """A polygon, and the label of its class, or `REGION`, or `IGNORE`."""

    polygon: Polygon
    label: int


class Annotation(ABC):
    """What is annotated on a slide.

    Attributes:
        format: of the file, "geojson" or "mask".
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


class PolygonAnnotation(Annotation):
    """Shapes in the order they are painted: later ones over earlier ones, ignored ones over all.

    With regions, they are the annotated area, and `fill` is the label of the area that no class covers (255: none).
    Without, the classes' own shapes are the area.
    """

    def __init__(
        self, shapes: Sequence[Shape], fill: int = IGNORE_INDEX, format: str = "geojson", notes: Sequence[str] = ()
    ):
        self.format = format
        self.notes = list(notes)
        self.fill = fill
        self.shapes = list(shapes)
        self.has_regions = any(item.label == REGION for item in shapes)
        self._tree = shapely.STRtree([item.polygon for item in shapes])
        for item in shapes:
            shapely.prepare(item.polygon)

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
        return None if self._annotated.is_empty else self._annotated.bounds

    @property
    def area(self) -> float:
        return float(self._annotated.area)

    @cached_property
    def _annotated(self) -> BaseGeometry:
        regions, ignored = self._union(REGION), self._union(IGNORE)
        classes = shapely.union_all([item.polygon for item in self.shapes if item.label >= 0])
        if self.has_regions:
            classes = regions if self.fill != IGNORE_INDEX else shapely.intersection(classes, regions)
        return shapely.difference(classes, ignored)

    def _union(self, label: int) -> BaseGeometry:
        return shapely.union_all([item.polygon for item in self.shapes if item.label == label])


class MaskAnnotation(Annotation):
    """Labels as an image, (h, w) uint8, each pixel of which covers `scale` level-0 pixels along each side."""

    def __init__(self, labels: np.ndarray, scale: int, notes: Sequence[str] = ()):
        self.format = "mask"
        self.notes = list(notes)
        self.labels = labels
        self.scale = scale

    def rasterise(self, x0: float, y0: float, w: int, h: int, downsample: float) -> np.ndarray:
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
        return tuple(float(edge * self.scale) for edge in (left, upper, right, lower))  # type: ignore[return-value]

    @property
    def area(self) -> float:
        return float((self.labels != IGNORE_INDEX).sum()) * self.scale**2


def read_annotation(
    path: Path, classes: Sequence[TissueClass], annotations: Annotations, dimensions: tuple[int, int]
) -> Annotation:
    """Read the annotation of a slide.

    Args:
        path: GeoJSON (.geojson, .json), or a mask (.png, .tif, .tiff).
        classes: the study's classes, in the order of their labels.
        annotations: which names are regions, which are ignored, and what fills the regions.
        dimensions: (width, height) of the slide's level 0.

    Raises:
        UserError: it cannot be read, has classes that nobody knows, or does not lie on the slide.
    """
    match path.suffix.lower():
        case ".geojson" | ".json":
            return read_geojson(path, classes, annotations, dimensions)
        case ".png" | ".tif" | ".tiff":
            return read_mask(path, classes, dimensions)
    raise UserError(
        f"{path}: annotations are read from GeoJSON (.geojson, .json) and masks (.png, .tif, .tiff), not from"
        f" {path.suffix or 'files without an ending'}; export it as one of them"
    )


# Polygons ------------------------------------------------------------------------------------------------------------


def read_geojson(
    path: Path, classes: Sequence[TissueClass], annotations: Annotations, dimensions: tuple[int, int]
) -> PolygonAnnotation:
    """Read what QuPath (0.2 and later) exports: a FeatureCollection, a list of features, or a single one.

    Polygons and MultiPolygons of any object (annotations, detections, cells) are shapes; points and lines have no
    area: they are passed over and counted.
    """
    passed: Counter[str] = Counter()
    named_polygons: list[tuple[str, Polygon]] = []
    for number, feature in enumerate(features_of(path), start=1):
        try:
            found, without_area = polygons_of(feature.get("geometry"))
            name = class_name(feature)
        except Exception as error:  # shapely raises half a dozen types for wrong coordinates
            raise UserError(
                f"{path}, feature {number}: is not GeoJSON that makes sense ({error}); export it again"
            ) from error
        passed.update(without_area)
        named_polygons += [(name, polygon) for polygon in found]
    labels = labels_of(path, Counter(name for name, _ in named_polygons), classes, annotations)
    shapes = [Shape(polygon, labels[name]) for name, polygon in named_polygons]
    check_coordinates(path, [item.polygon for item in shapes], dimensions)
    if annotations.whole_slide and not any(item.label == REGION for item in shapes):
        shapes.append(Shape(shapely.box(0, 0, *dimensions), REGION))
    names = [item.name for item in classes]
    fill = IGNORE_INDEX if annotations.fill is None else names.index(annotations.fill)
    notes = [
        f"{count} × {kind} in the annotation passed over, it has no area" for kind, count in sorted(passed.items())
    ]
    if not shapes:
        notes.append("the annotation has no polygon")
    elif annotations.fill is not None and not any(item.label == REGION for item in shapes):
        notes.append("the annotation has no region: only its shapes are annotated, nothing is filled")
    return PolygonAnnotation(shapes, fill, "geojson", notes)


def features_of(path: Path) -> list[dict[str, Any]]:
    """The features of a GeoJSON file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); export it again") from error
    if isinstance(data, dict):
        data = data.get("features") if data.get("type") == "FeatureCollection" else [data]
    if not isinstance(data, list) or not all(isinstance(item, dict) and item.get("type") == "Feature" for item in data):
        raise UserError(f"{path}: is not GeoJSON (a FeatureCollection, or features); export it from QuPath as GeoJSON")
    return data


def polygons_of(geometry: Any) -> tuple[list[Polygon], list[str]]:
    """Valid polygons of a GeoJSON geometry, and the kinds of what in it has no area."""
    if geometry is None:
        return [], ["feature without geometry"]
    parts = shapely.get_parts(shape(geometry))
    if not len(parts):
        return [], ["empty geometry"]
    polygons, passed = [], []
    for part in parts:
        if part.geom_type == "GeometryCollection":
            raise ValueError("a GeometryCollection within another")
        if "Polygon" not in part.geom_type:
            passed.append(part.geom_type)
            continue
        if not np.isfinite(shapely.get_coordinates(part)).all():
            raise ValueError("coordinates that are no numbers")
        pieces = [piece for whole in shapely.get_parts(part) for piece in areas_of(whole)]
        polygons += pieces
        passed += [] if pieces else ["empty polygon"]
    return polygons, passed


def areas_of(polygon: Polygon) -> list[Polygon]:
    """A polygon as valid ones: strokes that cross themselves are parted, lines and points among them dropped."""
    valid = polygon if polygon.is_valid else shapely.make_valid(polygon)
    parts = shapely.get_parts(shapely.get_parts(valid))
    return [part for part in parts if part.geom_type == "Polygon" and part.area > 0]


def class_name(feature: dict[str, Any]) -> str:
    """Name of a feature's class, as the versions of QuPath write it."""
    properties = feature.get("properties") or {}
    classification = properties.get("classification")
    if isinstance(classification, dict):
        names = classification.get("names") or [classification.get("name")]  # 0.6 and later write a list
        classification = ": ".join(str(name) for name in names if name)
    return str(classification or UNCLASSIFIED).strip()


def labels_of(
    path: Path, names: Counter[str], classes: Sequence[TissueClass], annotations: Annotations
) -> dict[str, int]:
    """Label of each name.

    Raises:
        UserError: names that stand for nothing, all of them, each with its count.
    """
    known = {name: label for label, item in enumerate(classes) for name in (item.annotations or [item.name])}
    labels = {}
    for name in names:
        if name in known:
            labels[name] = known[name]
        elif any(fnmatchcase(name, pattern) for pattern in annotations.ignore):
            labels[name] = IGNORE
        elif any(fnmatchcase(name, pattern) for pattern in annotations.regions):
            labels[name] = REGION
    if unknown := [f"{name!r} ({count})" for name, count in names.items() if name not in labels]:
        raise UserError(
            f"{path}: unknown classes: {', '.join(unknown)}; known are {', '.join(map(repr, known))}. Name them under"
            " `annotations` of one of the classes, or in annotations.ignore or annotations.regions"
        )
    return labels


def check_coordinates(path: Path, polygons: Sequence[Polygon], dimensions: tuple[int, int]) -> None:
    """Refuse shapes that do not lie on the slide: another slide's, or another resolution's."""
    if not polygons:
        return
    left, upper, right, lower = shapely.total_bounds(polygons)
    width, height = dimensions
    more_x, more_y = (max(OUTSIDE[0], OUTSIDE[1] * side) for side in dimensions)
    if left >= -more_x and upper >= -more_y and right <= width + more_x and lower <= height + more_y:
        return
    raise UserError(
        f"{path}: wrong coordinates: the shapes lie at x {left:.0f} to {right:.0f}, y {upper:.0f} to {lower:.0f}, the"
        f" slide is {width} × {height} px. Is it another slide's annotation, or not in level-0 pixels? Export it again"
        " from this slide"
    )


def paint(canvas: np.ndarray, polygon: Polygon, value: int, x0: float, y0: float, downsample: float) -> None:
    """Set the pixels whose centres lie in a polygon.

    OpenCV fills, but takes all pixels that the outline touches; those along it are asked of GEOS one by one. Centres
    on the outline belong to the shape on their right or below, so that neighbours leave no gap and do not overlap.

    Args:
        canvas: (h, w) uint8, changed in place; its upper left is at x0, y0.
        polygon: valid and prepared, in level-0 pixels.
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
    x0, y0 = x0 + columns.start * downsample, y0 + rows.start * downsample
    filled, border = np.zeros((2, *part.shape), np.uint8)
    rings = [np.asarray(ring.coords)[:, :2] for ring in (polygon.exterior, *polygon.interiors)]
    points = [((ring - (x0, y0)) / downsample - 0.5) * 2**SUBPIXEL for ring in rings]
    fixed = [np.rint(item).astype(np.int32) for item in points]
    cv2.fillPoly(filled, fixed, 1, shift=SUBPIXEL)
    cv2.polylines(border, fixed, True, 1, thickness=3, shift=SUBPIXEL)
    y, x = np.nonzero(border)
    inside = shapely.contains_xy(polygon, x0 + (x + 0.5) * downsample + 1e-6, y0 + (y + 0.5) * downsample + 1e-6)
    filled[y, x] = inside
    part[filled > 0] = value


# Masks ---------------------------------------------------------------------------------------------------------------


def read_mask(path: Path, classes: Sequence[TissueClass], dimensions: tuple[int, int]) -> MaskAnnotation:
    """Read a mask: grey, palette or instance numbers of 8, 16 or 32 bits; of the slide's size, or n times smaller.

    Values that belong to no class are not annotated; they are counted.
    """
    values = read_values(path)
    scale = mask_scale(path, values.shape, dimensions)
    labels = np.full(values.shape, IGNORE_INDEX, np.uint8)
    for label, item in enumerate(classes):
        for text in item.mask_values:
            low, high = mask_range(text)
            labels[(values >= low) & (values <= high)] = label
    unknown = values[labels == IGNORE_INDEX]
    if unknown.size == values.size:
        raise UserError(
            f"{path}: none of its values ({shown(values)}) is a class; give them as `mask_values` of the classes"
        )
    notes = []
    if unknown.size:
        notes.append(
            f"values {shown(unknown)} of the mask belong to no class: {unknown.size / values.size:.1%} of it is not"
            " annotated"
        )
    return MaskAnnotation(labels, scale, notes)


def read_values(path: Path) -> np.ndarray:
    """Pixels of a mask as they are stored, (h, w) integer."""
    try:
        if path.suffix.lower() == ".png":
            with Image.open(path, formats=("PNG",)) as image:
                values = np.asarray(image)
        else:
            values = np.asarray(tifffile.imread(path, series=0, level=0))
    except Exception as error:  # Pillow and tifffile raise half a dozen types for a broken file
        raise UserError(f"{path}: cannot be read as a mask ({error}); export it again") from error
    if values.ndim == 3 and values.shape[2] == 3 and (values == values[:, :, :1]).all():
        values = values[:, :, 0]  # grey saved as colour
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise UserError(
            f"{path}: is not a mask: it has shape {values.shape} and type {values.dtype}; one channel of whole numbers"
            " (grey or palette) is needed"
        )
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def mask_scale(path: Path, size: Sequence[int], dimensions: tuple[int, int]) -> int:
    """Level-0 pixels per pixel of a mask."""
    width, height = dimensions
    factor = max(1, round(max(width / size[1], height / size[0])))
    off = max(abs(width / factor - size[1]), abs(height / factor - size[0]))
    if off > (0 if factor == 1 else 1):  # the last pixel of a smaller copy may be cut off, or filled up
        raise UserError(
            f"{path}: the mask is {size[1]} × {size[0]} px, the slide {width} × {height}; it must have the slide's"
            " size, or be smaller by a whole number. Is it another slide's mask?"
        )
    return factor


def shown(values: np.ndarray) -> str:
    """The values there are, in few words."""
    found = np.unique(values)
    return ", ".join(map(str, found)) if len(found) <= 8 else f"{found[0]} to {found[-1]}, {len(found)} of them"
