"""GeoJSON as QuPath exports it, of all versions: a FeatureCollection, a list of features, or a single one."""

from pathlib import Path
from typing import Any

from shapely.geometry import shape

from stedm.errors import UserError
from stedm.slides.annotations.drawing import UNCLASSIFIED, Drawn, colour_of, reading


def read_geojson(path: Path, data: Any) -> list[Drawn]:
    """What the features draw: annotations, detections and cells alike.

    Args:
        path: of the file, for messages.
        data: the parsed JSON.

    Raises:
        UserError: it is not GeoJSON, or a feature makes no sense.
    """
    if isinstance(data, dict):
        data = data.get("features") if data.get("type") == "FeatureCollection" else [data]
    if not isinstance(data, list) or not all(isinstance(item, dict) and item.get("type") == "Feature" for item in data):
        raise UserError(
            f"{path}: is not GeoJSON (a FeatureCollection, or features), nor COCO (images and annotations); export"
            " it from QuPath as GeoJSON"
        )
    drawn = []
    for number, feature in enumerate(data, start=1):
        with reading(path, where := f"feature {number}"):
            geometry = feature.get("geometry")
            properties = feature.get("properties") or {}
            classification = properties.get("classification")
            drawn.append(
                Drawn(
                    where,
                    class_name(classification),
                    None if geometry is None else shape(geometry),
                    colour_of(classification),
                )
            )
    return drawn


def class_name(classification: Any) -> str:
    """Name of a feature's class, as the versions of QuPath write it."""
    if isinstance(classification, dict):
        names = classification.get("names") or [classification.get("name")]  # 0.6 and later write a list
        classification = ": ".join(str(name) for name in names if name)
    return str(classification or UNCLASSIFIED).strip()
