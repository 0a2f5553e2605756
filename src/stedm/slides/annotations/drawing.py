"""What an annotation file draws, whatever its format: geometries with the names of their classes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry

from stedm.errors import UserError

UNCLASSIFIED = "Unclassified"
"""Name of shapes without a class."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One thing that a file draws.

    Attributes:
        where: it stands in the file, for messages.
        name: of its class.
        geometry: in level-0 pixels, of any kind, valid or not; None: the file gives none.
        colour: "#rrggbb", or "" where the file has none.
    """

    where: str
    name: str
    geometry: BaseGeometry | None
    colour: str = ""


@contextmanager
def reading(path: Path, where: str) -> Iterator[None]:
    """Errors in the body become the user's, who learns the file and the element."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # wrong types and coordinates raise a dozen types here and in shapely
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise UserError(f"{path}, {where}: makes no sense ({reason}); export it again") from error


def outline(points: Any) -> BaseGeometry:
    """The polygon within a line of points (n, 2) that need not be closed; a line or a point where they are too few."""
    points = np.asarray(points, float).reshape(-1, 2)
    match len(points):
        case 0:
            return Polygon()
        case 1:
            return Point(points[0])
        case 2:
            return LineString(points)
    return Polygon(points)


def colour_of(properties: Any) -> str:
    """Colour as "#rrggbb" where there is one: `color` as red, green, blue, or QuPath's older packed `colorRGB`."""
    match properties:
        case {"color": [int(red), int(green), int(blue)]}:
            return f"#{red & 255:02x}{green & 255:02x}{blue & 255:02x}"
        case {"colorRGB": int(packed)}:
            return f"#{packed & 0xFFFFFF:06x}"
    return ""


def polygons_of(path: Path, drawn: Sequence[Drawn]) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """All that has an area, as valid polygons.

    Outlines that cross themselves are parted into polygons that do not.

    Returns:
        The polygons, an array of objects; for each the index of what it was drawn by, in ascending order; and the kinds
        of what has no area, with their counts.

    Raises:
        UserError: a coordinate is no number.
    """
    passed = Counter({"shape without geometry": sum(item.geometry is None for item in drawn)})
    geometries = np.array([item.geometry for item in drawn], object)
    passed["empty geometry"] = int(shapely.is_empty(geometries).sum())
    parts, index = single_parts(geometries)
    coordinates, owner = shapely.get_coordinates(parts, return_index=True)
    if len(bad := owner[~np.isfinite(coordinates).all(1)]):
        raise UserError(f"{path}, {drawn[index[bad[0]]].where}: has coordinates that are no numbers; export it again")
    has_area = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    passed.update(part.geom_type for part in parts[~has_area] if not part.is_empty)
    parts, index = parts[has_area], index[has_area]
    rings, owner = shapely.get_rings(parts, return_index=True)
    for number in np.unique(owner[shapely.is_empty(rings)]):  # GEOS crashes on empty holes
        whole = parts[number]
        parts[number] = Polygon(whole.exterior, [hole for hole in whole.interiors if not hole.is_empty])
    for number in np.flatnonzero(~shapely.is_valid(parts)):
        with reading(path, drawn[index[number]].where):
            parts[number] = shapely.make_valid(parts[number])
    pieces, origin = single_parts(parts)
    kept = (shapely.get_type_id(pieces) == shapely.GeometryType.POLYGON) & (shapely.area(pieces) > 0)
    pieces, origin = pieces[kept], origin[kept]
    passed["empty polygon"] = int((~shapely.is_empty(parts)).sum()) - len(np.unique(origin))
    return pieces, index[origin], +passed


def single_parts(geometries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Collections taken apart until none is left: the parts, and the index of the geometry that each comes from."""
    index = np.arange(len(geometries))
    while True:
        parts, origin = shapely.get_parts(geometries, return_index=True)
        index = index[origin]
        if not (shapely.get_type_id(parts) >= shapely.GeometryType.MULTIPOINT).any():
            return parts, index
        geometries = parts
