"""The shapes of an annotation file, whatever its format: geometries with the names of their classes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry

from stedm.errors import UserError

UNCLASSIFIED = "Unclassified"
"""Name of shapes without a class."""
MOST_CROSSINGS = 1_000_000
"""Pairs of edges of a file's invalid outlines whose boxes meet."""
BLOCK = 200
"""Edges that are compared with all others at a time."""
REPAIRED = 0.01
"""A repair that changes an area by more than this share is noted."""


@dataclass(frozen=True, slots=True)
class NamedShape:
    """One shape of a file.

    Attributes:
        where: it stands in the file, for messages.
        name: of its class, as `stedm.config.normalised` gives it.
        geometry: in level-0 pixels, of any kind, valid or not; None: the file gives none.
        colour: "#rrggbb", or "" where the file has none.
        holes: valid area to be cut out of it, besides the holes of the geometry itself.
    """

    where: str
    name: str
    geometry: BaseGeometry | None
    colour: str = ""
    holes: BaseGeometry | None = None


@dataclass
class Contents:
    """What an annotation file holds.

    Attributes:
        shapes: in the order of the file.
        lost: kinds of things in the file that label nothing and are no shapes, with their counts.
        notes: what the user should know, though it stops nothing.
    """

    shapes: list[NamedShape]
    lost: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


class Polygons(NamedTuple):
    """The valid polygons of a file's shapes.

    Attributes:
        polygons: (N,) array of objects.
        origin: (N,) index of the shape that each comes from, in ascending order.
        lost: kinds of what has no area, with their counts.
        notes: what repairs have changed.
    """

    polygons: np.ndarray
    origin: np.ndarray
    lost: Counter[str]
    notes: list[str]


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


def decimal(text: str) -> float:
    """A coordinate as programs write it, with a point or, in some countries, a comma for the decimals."""
    return float(text if "." in text else text.replace(",", "."))


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


def polygons_of(path: Path, shapes: Sequence[NamedShape]) -> Polygons:
    """All that has an area, as valid polygons.

    Raises:
        UserError: a coordinate is no number.
    """
    lost = Counter({"shape without geometry": sum(item.geometry is None for item in shapes)})
    geometries = np.array([item.geometry for item in shapes], object)
    lost["empty geometry"] = int(shapely.is_empty(geometries).sum())
    parts, index = single_parts(geometries)
    coordinates, owner = shapely.get_coordinates(parts, return_index=True)
    if len(bad := owner[~np.isfinite(coordinates).all(1)]):
        raise UserError(f"{path}, {shapes[index[bad[0]]].where}: has coordinates that are no numbers; export it again")
    has_area = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    lost.update(part.geom_type for part in parts[~has_area] if not part.is_empty)
    parts, index = parts[has_area], index[has_area]
    notes = repair(path, parts, [shapes[number].where for number in index])
    for number, item in enumerate(index):
        if shapes[item].holes is not None:
            parts[number] = shapely.difference(parts[number], shapes[item].holes)
    pieces, origin = single_parts(parts)
    kept = (shapely.get_type_id(pieces) == shapely.GeometryType.POLYGON) & (shapely.area(pieces) > 0)
    pieces, origin = pieces[kept], origin[kept]
    lost["shape without area"] = len(parts) - len(np.unique(origin))
    return Polygons(pieces, index[origin], +lost, notes)


def repair(path: Path, polygons: np.ndarray, where: Sequence[str]) -> list[str]:
    """Make polygons valid, in place.

    Returns:
        Notes on areas that this changes, and on holes that lie outside their outline.
    """
    rings, owner = shapely.get_rings(polygons, return_index=True)
    for number in np.unique(owner[shapely.is_empty(rings)]):  # GEOS crashes on empty holes
        whole = polygons[number]
        polygons[number] = Polygon(whole.exterior, [hole for hole in whole.interiors if not hole.is_empty])
    changed = []
    outside = 0
    crossings = 0
    for number in map(int, np.flatnonzero(~shapely.is_valid(polygons))):
        with reading(path, where[number]):
            crossings += close_pairs(polygons[[number]], MOST_CROSSINGS - crossings)
            body = valid_area(Polygon(polygons[number].exterior))
            holes = [valid_area(Polygon(hole)) for hole in polygons[number].interiors]
            before, polygons[number] = polygons[number].area, shapely.difference(body, shapely.union_all(holes))
            outside += sum(not shapely.intersects(body, hole) for hole in holes)
            if abs(before - polygons[number].area) > REPAIRED * max(before, polygons[number].area):
                changed.append(f"{where[number]}: {before:,.0f} to {polygons[number].area:,.0f} px")
    notes = [f"ignored: {outside} × hole outside its outline"] if outside else []
    if changed:
        notes.append(
            f"repaired: {len(changed)} × self-intersecting outline whose area changed by more than {REPAIRED:.0%}"
            f" ({'; '.join(changed[:3])}{'; …' * (len(changed) > 3)}); see the overview"
        )
    return notes


def close_pairs(polygons: np.ndarray, most: int) -> int:
    """How many pairs of outlines' edges may cross: their boxes meet. What repairs or unites them takes time and memory
    by their number.

    Raises:
        ValueError: they are too many.
    """
    rings, points = shapely.get_rings(polygons), shapely.get_coordinates
    edges = [shapely.linestrings(np.stack([ends[:-1], ends[1:]], 1)) for ends in map(points, rings) if len(ends)]
    tree, found = shapely.STRtree(np.concatenate([np.empty(0, object), *edges])), 0
    for start in range(0, len(tree.geometries), BLOCK):
        some = tree.geometries[start : start + BLOCK]
        found += tree.query(some).shape[1] - 3 * len(some)  # an edge meets itself and its neighbours
        if found > most:
            raise ValueError(f"its outlines may cross each other more than {MOST_CROSSINGS:,} times")
    return max(0, found)


def valid_area(geometry: BaseGeometry) -> BaseGeometry:
    """The valid area within an outline that may cross itself: all that it goes round, however often (non-zero
    winding)."""
    return shapely.make_valid(geometry, method="structure", keep_collapsed=False)


def single_parts(geometries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Collections taken apart until none is left: the parts, and the index of the geometry that each comes from."""
    index = np.arange(len(geometries))
    while True:
        parts, origin = shapely.get_parts(geometries, return_index=True)
        index = index[origin]
        if not (shapely.get_type_id(parts) >= shapely.GeometryType.MULTIPOINT).any():
            return parts, index
        geometries = parts
