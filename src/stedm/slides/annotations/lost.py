"""Which shapes of an annotation label no pixel of the slide, and why."""

from collections.abc import Sequence

import numpy as np
import shapely

from stedm.slides.annotations.annotation import IGNORE, NUDGE, REGION, Shape

LARGEST = 2**20
"""Pixels of the box of a thin shape that is looked at pixel by pixel; a larger one has pixels."""


def losses(shapes: Sequence[Shape], dimensions: tuple[int, int], downsample: float) -> np.ndarray:
    """Why shapes of classes label no pixel, (N,) of text; "" for those that do, and for regions and ignored shapes.

    Args:
        shapes: in painting order.
        dimensions: (width, height) of the slide's level 0.
        downsample: level-0 pixels per pixel.
    """
    labels = np.array([item.label for item in shapes], int)
    polygons = np.array([item.polygon for item in shapes], object)
    slide = shapely.box(0, 0, *dimensions)
    regions, ignored = (shapely.disjoint_subset_union_all(polygons[labels == kind]) for kind in (REGION, IGNORE))
    shapely.prepare([slide, regions, ignored])
    reasons = {
        "shape outside the slide": ~shapely.intersects(slide, polygons),
        "shape outside all regions": ~shapely.intersects(regions, polygons) & (REGION in labels),
        "shape hidden by an ignored one": shapely.covers(ignored, polygons),
        "shape hidden by another with the same outline": overpainted(polygons, labels),
        "shape smaller than a pixel": without_pixel(polygons, downsample),
    }
    return np.where(labels >= 0, np.select(list(reasons.values()), list(reasons), ""), "")


def overpainted(polygons: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) bool: polygons that are painted over by a later one of the same outline and another label."""
    outlines = shapely.to_wkb(shapely.normalize(polygons))
    last = dict(zip(outlines, labels, strict=True))
    return np.array([last[outline] != label for outline, label in zip(outlines, labels, strict=True)], bool)


def without_pixel(polygons: np.ndarray, downsample: float) -> np.ndarray:
    """(N,) bool: polygons in which no pixel's centre lies.

    Those with an area larger than half their outline's length, in pixels, have one (Nosarzewska's inequality).
    """
    small = shapely.area(polygons) / downsample <= shapely.length(polygons) / 2
    left, upper, right, lower = (shapely.bounds(polygons).T // downsample).astype(int)
    small &= (right - left + 1) * (lower - upper + 1) <= LARGEST
    for number in np.flatnonzero(small):
        x = (np.arange(left[number], right[number] + 1) + 0.5) * downsample + NUDGE[0]
        y = (np.arange(upper[number], lower[number] + 1) + 0.5) * downsample + NUDGE[1]
        small[number] = not shapely.contains_xy(polygons[number], x, y[:, None]).any()
    return small
