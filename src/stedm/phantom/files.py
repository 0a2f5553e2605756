"""Phantom slides as files: a pyramid TIFF that OpenSlide reads, and its annotation as QuPath exports it."""

import json
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.random import Generator
from numpy.typing import NDArray
from shapely.geometry import Polygon

from stedm.config.stages import PhantomOptions
from stedm.errors import UserError
from stedm.files import written_whole
from stedm.phantom.layout import rasterise, sample_layout
from stedm.phantom.style import Style, sample_style
from stedm.phantom.tissue import stain_tissue, transmit
from stedm.sheet import Slide

CLASS_COLOURS = {"Tumor": (200, 0, 0), "Region*": (0, 0, 180)}
"""QuPath's own."""


def render_phantom(options: PhantomOptions, slide: Slide) -> None:
    """Render a patient's one slide and its annotation where the sheet says.

    Randomness depends on the seed and the patient only, so each slide can be rendered alone.

    Raises:
        UserError: the row has no annotation, or a group that phantoms do not have.
    """
    if slide.annotation is None:
        raise UserError(f"slide {slide.slide!r}: the column annotation is empty; name a .geojson file")
    phantoms = options.phantoms
    style_rng, slide_rng = np.random.default_rng([phantoms.seed, zlib.crc32(slide.patient.encode())]).spawn(2)
    style = sample_style(style_rng, wide=slide.split != "annotated")
    image, tumour, region = render_slide(phantoms.size, phantoms.mpp, style, slide.group, slide_rng)
    write_pyramid(slide.path, image, phantoms.mpp)
    write_geojson(slide.annotation, tumour, region)


def render_slide(
    size: int, mpp: float, style: Style, group: str, rng: Generator
) -> tuple[NDArray[np.uint8], list[Polygon], list[Polygon]]:
    """Render one piece of tissue.

    Args:
        size: pixels of each side.
        mpp: µm per pixel.
        style: the patient's appearance; the layout does not depend on it.
        group: "solid" or "nested", the geometry of the tumour.
        rng: spawns two streams, one for the layout and one for the texture.

    Returns:
        (size, size, 3) uint8 RGB; the tumour's polygons; the tissue's outline; both in pixels.
    """
    layout_rng, texture_rng = rng.spawn(2)
    tumour, region = sample_layout(size, mpp, group, layout_rng)
    concentrations = stain_tissue(rasterise(tumour, size), rasterise(region, size), mpp, style, texture_rng)
    return transmit(*concentrations, mpp, style, texture_rng), tumour, region


def write_pyramid(path: Path, image: NDArray[np.uint8], mpp: float) -> None:
    """Write (H, W, 3) RGB as a tiled JPEG TIFF with half-size levels and the resolution that OpenSlide reads."""
    levels = [image]
    while len(levels) < 3 or max(levels[-1].shape) > 512:
        height, width, _ = levels[-1].shape
        half = (max(1, width // 2), max(1, height // 2))
        levels.append(np.asarray(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA), dtype=np.uint8))
    with written_whole(path) as temporary, tifffile.TiffWriter(temporary) as file:
        for number, level in enumerate(levels):
            per_cm = 1e4 / mpp * level.shape[1] / image.shape[1]
            file.write(
                level,
                tile=(256, 256),
                photometric="rgb",  # of the input: with this compression it is stored as YCbCr
                compression="jpeg",
                compressionargs={"level": 90},
                subfiletype=int(number > 0),  # 1: a reduced copy, which OpenSlide reads as a level
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
                software="stedm",
            )


def write_geojson(path: Path, tumour: Sequence[Polygon], region: Sequence[Polygon]) -> None:
    """Write annotations as QuPath (0.4 and later) exports them: one feature per polygon, in whole level-0 pixels."""
    shapes = [("Region*", polygon) for polygon in region] + [("Tumor", polygon) for polygon in tumour]
    features = [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{path.name} {number}")),  # the same file each time
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    np.rint(ring.coords).astype(int).tolist() for ring in (polygon.exterior, *polygon.interiors)
                ],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": CLASS_COLOURS[name]},
            },
        }
        for number, (name, polygon) in enumerate(shapes)
    ]
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
