"""Label maps as polygons, in the GeoJSON that QuPath (0.4 and later) reads.

A map comes in strips from top to bottom. The areas of a strip are a *coverage*: polygons that share their edges, which
GEOS simplifies together (Visvalingam and Whyatt 1993), so that neighbours stay neighbours, without gap or overlap. The
strip's own border is left as it is, so that areas that reach over a seam fit and are united in the end.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import shapely
from shapely import Polygon

from stedm.config import IGNORE_INDEX, TissueClass

TOLERANCE = 1.0
"""Pixels of the map. Corners are cut as long as the triangle cut off has less than the square of it."""
DECIMALS = 2
"""Of coordinates, which are level-0 pixels."""


class Outlines:
    """Polygons of the areas of equal label of a map."""

    def __init__(self) -> None:
        self._height = 0
        self._whole: dict[int, list[np.ndarray]] = defaultdict(list)
        self._cut: dict[int, list[np.ndarray]] = defaultdict(list)

    def watch(self, strips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass on the strips (h, W) uint8 of a map, and keep their outlines."""
        for strip in strips:
            if (strip != IGNORE_INDEX).any():
                self._add(strip)
            self._height += len(strip)
            yield strip

    def _add(self, strip: np.ndarray) -> None:
        polygons, labels = areas(strip)
        polygons = shapely.coverage_simplify(polygons, TOLERANCE, simplify_boundary=False)
        _, upper, _, lower = shapely.bounds(polygons).T
        cut = (upper == 0) | (lower == len(strip))
        polygons = shapely.transform(polygons, lambda points: points + np.array((0, self._height)))
        for label in set(labels.tolist()) - {IGNORE_INDEX}:
            self._whole[label].append(polygons[(labels == label) & ~cut])
            self._cut[label].append(polygons[(labels == label) & cut])

    def polygons(self) -> Iterator[tuple[int, Polygon]]:
        """Label and polygon, in pixels of the map, of each area of the strips that were passed on."""
        for label in sorted(self._cut):
            united = shapely.get_parts(shapely.coverage_union_all(np.concatenate(self._cut[label])))
            found = np.concatenate([*self._whole[label], united])
            for polygon in shapely.simplify(found, 0):  # points along the straight lines of seams
                yield label, polygon


def areas(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The connected areas of equal label, along the edges of their pixels, with a point at each pixel's corner.

    Args:
        labels: (h, w) uint8.

    Returns:
        Polygons (N,), a coverage of the whole of [0, w] × [0, h], and their labels (N,).
    """
    twice = labels.repeat(2, 0).repeat(2, 1)
    polygons, values = [], []
    for value in np.flatnonzero(np.bincount(labels.ravel())):
        contours, tree = cv2.findContours((twice == value).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        # OpenCV's contours run through the outermost pixels: of a picture twice as large, a quarter of a pixel inside.
        rings = [(contour[:, 0] + 1) // 2 for contour in contours]
        holes = defaultdict(list)
        for ring, (_, _, _, parent) in zip(rings, tree[0], strict=True):
            holes[parent].append(ring)
        shells = np.array([Polygon(ring, holes[number]) for number, ring in enumerate(rings) if tree[0, number, 3] < 0])
        touching = ~shapely.is_valid(shells)  # areas that touch at a corner only, which OpenCV takes for one
        shells[touching] = shapely.make_valid(shells[touching], method="structure")
        pieces = shapely.get_parts(shells)
        polygons.append(pieces)
        values.append(np.full(len(pieces), value))
    return shapely.transform(shapely.segmentize(np.concatenate(polygons), 1), np.rint), np.concatenate(values)


def write_geojson(
    path: Path, polygons: Iterable[tuple[int, Polygon]], classes: Sequence[TissueClass], downsample: float
) -> None:
    """Write labelled polygons as annotations that QuPath opens.

    Args:
        path: the file.
        polygons: label and polygon, in pixels of a map.
        classes: names and colours of labels 0, 1, …
        downsample: level-0 pixels per pixel of the map.
    """
    properties = [
        json.dumps({"objectType": "annotation", "classification": {"name": item.name, "color": list(item.rgb)}})
        for item in classes
    ]
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, (label, polygon) in enumerate(polygons):
            scaled = shapely.transform(polygon, lambda points: np.round(points * downsample, DECIMALS))
            file.write(
                f'{"," if number else ""}\n{{"type": "Feature", "geometry": {shapely.to_geojson(scaled)},'
                f' "properties": {properties[label]}}}'
            )
        file.write("\n]}\n")
