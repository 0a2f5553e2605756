"""Which shapes of an annotation label no pixel of the slide, and why."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import shapely

from stedm.slides.annotations.annotation import IGNORE, NUDGE, REGION, Shape

MOST_POINTS = 50_000_000
"""Of outlines that are compared with others, each as often as it is."""
MOST_TESTS = 2**28
"""Pixels of the boxes of thin shapes, times points of their outlines, that are looked at one by one, the smallest
first; the others have pixels."""


def losses(shapes: Sequence[Shape], dimensions: tuple[int, int], downsample: float) -> np.ndarray:
    """Why shapes of classes label no pixel, (N,) of text; "" for those that do, and for regions and ignored shapes.

    Args:
        shapes: in painting order.
        dimensions: (width, height) of the slide's level 0.
        downsample: level-0 pixels per pixel.

    Raises:
        ValueError: so many shapes lie in so many regions or ignored ones that it would take minutes to compare them.
    """
    labels = np.array([item.label for item in shapes], int)
    polygons = np.array([item.polygon for item in shapes], object)
    slide = shapely.box(0, 0, *dimensions)
    shapely.prepare(slide)
    reasons = {
        "shape outside the slide": ~shapely.intersects(slide, polygons),
        "shape outside all regions": ~found_by(polygons[labels == REGION], "intersects", polygons) & (REGION in labels),
        "shape hidden by an ignored one": found_by(polygons[labels == IGNORE], "covers", polygons),
        "shape hidden by another with the same outline": overpainted(polygons, labels),
        "shape smaller than a pixel": without_pixel(polygons, downsample),
    }
    return np.where(labels >= 0, np.select(list(reasons.values()), list(reasons), ""), "")


def found_by(ones: np.ndarray, predicate: Literal["intersects", "covers"], polygons: np.ndarray) -> np.ndarray:
    """(N,) bool: polygons of which this is true of one of the others.

    Raises:
        ValueError: they are so many that it would take minutes.
    """
    tree, points = shapely.STRtree(polygons), shapely.get_num_coordinates(polygons)
    found, work = np.zeros(len(polygons), bool), 0
    for one in ones:
        work += int(points[tree.query(one)].sum())
        if work > MOST_POINTS:
            raise ValueError(f"regions, or ignored shapes, lie over shapes with more than {MOST_POINTS:,} points")
        found[tree.query(one, predicate=predicate)] = True
    return found


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
    tests = small * (right - left + 1.0) * (lower - upper + 1.0) * shapely.get_num_coordinates(polygons)
    order = np.argsort(tests, kind="stable")
    small[order] &= np.cumsum(tests[order]) <= MOST_TESTS
    for number in np.flatnonzero(small):
        x = (np.arange(left[number], right[number] + 1) + 0.5) * downsample + NUDGE[0]
        y = (np.arange(upper[number], lower[number] + 1) + 0.5) * downsample + NUDGE[1]
        small[number] = not shapely.contains_xy(polygons[number], x, y[:, None]).any()
    return small
