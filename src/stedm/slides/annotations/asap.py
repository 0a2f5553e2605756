"""XML of ASAP, the viewer of Radboudumc (https://computationalpathologygroup.github.io/ASAP)."""

from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element

from shapely.geometry import LineString, MultiPoint
from shapely.geometry.base import BaseGeometry

from stedm.config import normalised
from stedm.slides.annotations.shapes import UNCLASSIFIED, Contents, NamedShape, decimal, outline, reading


def read_asap(path: Path, root: Element) -> Contents:
    """The annotations. A class is a group; splines have straight edges between their points.

    Args:
        path: of the file, for messages.
        root: `ASAP_Annotations`.

    Raises:
        UserError: an annotation makes no sense, or is of a type that ASAP does not write.
    """
    groups = {group.get("Name"): group.get("Color", "") for group in root.iterfind("AnnotationGroups/Group")}
    contents = Contents([])
    unlisted: Counter[str] = Counter()
    for number, annotation in enumerate(root.iterfind("Annotations/Annotation"), start=1):
        with reading(path, where := f"annotation {number} ({annotation.get('Name', '')!r})"):
            geometry = geometry_of(annotation)
            group = annotation.get("PartOfGroup", "None")
            colour = groups.get(group) or annotation.get("Color") or ""
            name = UNCLASSIFIED if group in ("", "None") else normalised(group)
            contents.shapes.append(NamedShape(where, name, geometry, colour))
            unlisted[name] += group not in groups and name != UNCLASSIFIED
    contents.notes = [
        f"{count} × annotation of the group {name!r}, which the file does not list"
        for name, count in (+unlisted).items()
    ]
    return contents


def geometry_of(annotation: Element) -> BaseGeometry:
    points = points_of(annotation)
    match kind := annotation.get("Type"):
        case "Polygon" | "Rectangle" | "Spline":
            return outline(points)
        case "Dot" | "PointSet":
            return MultiPoint(points)
        case "Measurement":
            return LineString(points)
    raise ValueError(f"ASAP has no type {kind!r}")


def points_of(annotation: Element) -> list[tuple[float, float]]:
    """Points x, y in the order that they are numbered."""
    found = annotation.findall("Coordinates/Coordinate")
    found.sort(key=lambda item: int(item.get("Order", 0)))
    return [(decimal(item.attrib["X"]), decimal(item.attrib["Y"])) for item in found]
