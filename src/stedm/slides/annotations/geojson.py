"""GeoJSON as QuPath exports it, of all versions: a FeatureCollection, a list of features, or a single one."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shapely.geometry import shape

from stedm.config import normalised
from stedm.errors import UserError
from stedm.slides.annotations.shapes import UNCLASSIFIED, Contents, NamedShape, colour_of, reading

CONTAINERS = {
    "tmaCore": "TMA core",
    "tma_core": "TMA core",
    "TMACoreObject": "TMA core",
    "root": "root object",
    "PathRootObject": "root object",
}
"""QuPath's objects that contain others and label nothing, as its versions call them."""


def read_geojson(path: Path, data: Any) -> Contents:
    """The features: annotations, detections and cells alike, also those that lie in others (`childObjects`).

    Args:
        path: of the file, for messages.
        data: the parsed JSON.

    Raises:
        UserError: it is not GeoJSON, or a feature makes no sense.
    """
    if isinstance(data, dict):
        data = data.get("features") if data.get("type") == "FeatureCollection" else [data]
    if not isinstance(data, list) or not all(map(is_feature, data)):
        raise UserError(
            f"{path}: is not GeoJSON (a FeatureCollection, or features), nor COCO (images and annotations); export"
            " it from QuPath as GeoJSON"
        )
    contents = Contents([])
    containers: Counter[str] = Counter()
    for number, feature in enumerate(data, start=1):
        with reading(path, where := f"feature {number}"):
            for item in with_children(feature):
                if container := CONTAINERS.get(object_type(item)):
                    containers[container] += 1
                    continue
                geometry = item.get("geometry")
                classification = properties_of(item).get("classification")
                contents.shapes.append(
                    NamedShape(
                        where,
                        class_name(classification),
                        None if geometry is None else shape(geometry),
                        colour_of(classification),
                    )
                )
    contents.notes = [
        f"ignored: {count} × {kind}, a container and not a shape" for kind, count in sorted(containers.items())
    ]
    return contents


def is_feature(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "Feature"


def properties_of(feature: dict[str, Any]) -> dict[str, Any]:
    return feature.get("properties") or {}


def with_children(feature: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A feature and, where QuPath exported the hierarchy, all that lie in it."""
    yield feature
    properties = properties_of(feature)
    for child in properties.get("childObjects") or properties.get("children") or []:
        yield from with_children(child)


def object_type(feature: dict[str, Any]) -> str:
    """What a feature is to QuPath: since 0.4, in 0.3, and up to 0.2."""
    properties = properties_of(feature)
    return str(properties.get("objectType") or properties.get("object_type") or feature.get("id"))


def class_name(classification: Any) -> str:
    """Name of a feature's class, as the versions of QuPath write it."""
    if isinstance(classification, dict):
        names = classification.get("names") or [classification.get("name")]  # 0.6 and later write a list
        classification = ": ".join(str(name) for name in names if name)
    return normalised(str(classification or UNCLASSIFIED))
