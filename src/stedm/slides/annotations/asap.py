"""XML of ASAP, the viewer of Radboudumc (https://computationalpathologygroup.github.io/ASAP)."""

from pathlib import Path
from xml.etree.ElementTree import Element

from shapely.geometry import LineString, MultiPoint

from stedm.errors import UserError
from stedm.slides.annotations.drawing import UNCLASSIFIED, Drawn, outline, reading


def read_asap(path: Path, root: Element) -> list[Drawn]:
    """What the annotations draw. A class is a group; splines have straight edges between their points.

    Args:
        path: of the file, for messages.
        root: `ASAP_Annotations`.

    Raises:
        UserError: an annotation makes no sense, or is of a type that ASAP does not write.
    """
    colours = {group.get("Name"): group.get("Color", "") for group in root.iterfind("AnnotationGroups/Group")}
    drawn = []
    for number, annotation in enumerate(root.iterfind("Annotations/Annotation"), start=1):
        with reading(path, where := f"annotation {number} ({annotation.get('Name', '')!r})"):
            points = points_of(annotation)
            group = annotation.get("PartOfGroup", "None")
            match kind := annotation.get("Type"):
                case "Polygon" | "Rectangle" | "Spline":
                    geometry = outline(points)
                case "Dot" | "PointSet":
                    geometry = MultiPoint(points)
                case "Measurement":
                    geometry = LineString(points)
                case _:
                    raise UserError(f"{path}, {where}: ASAP has no type {kind!r}; draw it as a polygon and save again")
            name = UNCLASSIFIED if group in ("", "None") else group.strip()
            drawn.append(Drawn(where, name, geometry, colours.get(group) or annotation.get("Color") or ""))
    return drawn


def points_of(annotation: Element) -> list[tuple[float, float]]:
    """Points x, y in the order that they are numbered."""
    found = annotation.findall("Coordinates/Coordinate")
    found.sort(key=lambda item: int(item.get("Order", 0)))
    return [(float(item.attrib["X"]), float(item.attrib["Y"])) for item in found]
