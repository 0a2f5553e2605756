"""XML of Aperio ImageScope (Leica Biosystems)."""

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
import shapely
from shapely import affinity
from shapely.geometry import LineString, Point
from shapely.geometry.base import BaseGeometry

from stedm.config import normalised
from stedm.slides.annotations.shapes import (
    MOST_CROSSINGS,
    Contents,
    NamedShape,
    close_pairs,
    decimal,
    outline,
    reading,
    valid_area,
)


def read_aperio(path: Path, root: Element) -> Contents:
    """The regions of all layers; negative regions are holes in those of their layer.

    Args:
        path: of the file, for messages.
        root: `Annotations`.

    Raises:
        UserError: a region makes no sense, or is of a type that ImageScope does not write.
    """
    contents = Contents([])
    crossings = 0
    for count, layer in enumerate(root.iterfind("Annotation"), start=1):
        number = layer.get("Id", str(count))
        regions, negative = read_layer(path, layer, number)
        cut = None
        if negative:
            with reading(path, f"layer {number}"):
                bodies = [geometry for _, _, geometry in regions]
                crossings += close_pairs(np.array([*bodies, *negative], object), MOST_CROSSINGS - crossings)
                holes, body = list(map(valid_area, negative)), shapely.union_all(list(map(valid_area, bodies)))
                contents.lost["negative region without a body"] += sum(not body.intersects(hole) for hole in holes)
                cut = shapely.union_all(holes)
        contents.shapes += [NamedShape(*region, line_colour(layer), cut) for region in regions]
    return contents


def read_layer(
    path: Path, layer: Element, number: str
) -> tuple[list[tuple[str, str, BaseGeometry]], list[BaseGeometry]]:
    """The regions of one layer, with where they stand and their names, and its negative regions."""
    regions, negative = [], []
    for count, region in enumerate(layer.iterfind("Regions/Region"), start=1):
        with reading(path, where := f"layer {number}, region {region.get('Id', count)}"):
            geometry = region_geometry(region)
            if region.get("NegativeROA") == "1":
                negative.append(geometry)
            else:
                regions.append((where, class_name(layer, region, number), geometry))
    return regions, negative


def class_name(layer: Element, region: Element, number: str) -> str:
    """Name of the layer; or what its attributes say; or the region's text; or as ImageScope calls nameless layers.

    ImageScope gives each layer an attribute "Description": its value is the user's, and so is any other name.
    """
    names = [layer.get("Name", "")]
    for attribute in layer.iterfind("Attributes/Attribute"):
        name = attribute.get("Name", "")
        names += [attribute.get("Value", ""), "" if name == "Description" else name]
    names += [region.get("Text", ""), f"Layer {number}"]
    return next(filter(None, map(normalised, names)))


def region_geometry(region: Element) -> BaseGeometry:
    """A region by its type: 0 freehand, 1 rectangle, 2 ellipse, 3 arrow, 4 ruler, 5 point."""
    points = [(decimal(item.attrib["X"]), decimal(item.attrib["Y"])) for item in region.iterfind("Vertices/Vertex")]
    if not np.isfinite(points).all():
        raise ValueError("it has coordinates that are no numbers")
    match kind := region.get("Type", "0"):
        case "1" if len(points) == 2:
            return shapely.box(*points[0], *points[1])
        case "2" if 2 <= len(points) <= 4:  # corners of its box; those with more are outlines
            return ellipse(*shapely.MultiPoint(points).bounds)
        case "0" | "1" | "2":
            return outline(points)
        case "3" | "4" | "5":
            return LineString(points) if len(points) > 1 else outline(points)
    raise ValueError(f"ImageScope has no region type {kind!r}")


def ellipse(left: float, upper: float, right: float, lower: float) -> BaseGeometry:
    """The ellipse in a box, as a polygon of 256 corners."""
    circle = Point((left + right) / 2, (upper + lower) / 2).buffer(1, quad_segs=64)
    return affinity.scale(circle, (right - left) / 2, (lower - upper) / 2)


def line_colour(layer: Element) -> str:
    """A layer's colour, which the file has as one number: blue, green, red."""
    number = layer.get("LineColor", "")
    if not number.isdecimal():
        return ""
    return "#" + (int(number) & 0xFFFFFF).to_bytes(3, "little").hex()
